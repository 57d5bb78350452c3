"""A small site on four topics, as a folder of pages, and a CSV of clicks on them."""

import random

TOPICS = ("sorting list words", "moon earth sun", "query document relevant", "adaptation language models")
PAGE = """<!doctype html><html><head><title>{title} - The Handbook</title><script>track({number})</script></head><body>
<div class="top">Welcome to the handbook</div><nav><a href="/">Home</a></nav>
<h1>{title}</h1><p>{first}</p><h2>Details</h2><p>{second}</p><div>Page {number} of 500, all rights reserved</div>
</body></html>
"""


def write_site(folder, count):
    """Write pages on four topics and clicks on them: a query is two words of the topic and the page's number."""
    rng = random.Random(0)
    clicks = ["query,url,clicks"]
    for i in range(count):
        topic = TOPICS[i % 4].split()
        page = folder / "site" / topic[0] / f"page-{i}.html"
        page.parent.mkdir(parents=True, exist_ok=True)
        first, second = (" ".join(rng.choices([*topic, "the", "of", "and", "a"], k=40)) for _ in range(2))
        page.write_text(PAGE.format(title=f"{topic[0]} {i}", number=i, first=first, second=f"{second} n{i}"))
        if i % 4 == i // 4 % 4:
            clicks.append(f"{' '.join(rng.sample(topic, 2))} n{i},https://handbook.org/{topic[0]}/page-{i}.html,1")
    (folder / "clicks.csv").write_text("\n".join(clicks) + "\n")
    return len(clicks) - 1
