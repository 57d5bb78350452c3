"""Write a small collection: what a shop answers its customers, and how they ask."""

from lorank.data import write_beir
from lorank.data.collection import Collection, Split

FACTS = {
    "Parcels are delivered within three working days.": ["how long does shipping take", "when will my order come"],
    "You can send goods back for thirty days.": ["how do i return an item", "return window"],
    "Refunds reach your bank account in one week.": ["when do i get my money back", "refund duration"],
    "We accept cards, bank transfer and invoices.": ["which payment methods exist", "can i pay by card"],
    "Gift cards never expire and can be split.": ["do vouchers expire", "is a gift card valid for ever"],
    "The warranty on all machines is two years.": ["how long is the guarantee", "machine broke after a year"],
    "Our phone line is open from nine to five.": ["when can i call you", "opening hours of support"],
    "Passwords are reset by a link sent by mail.": ["forgot my login", "how to change the password"],
    "Orders above fifty euros ship free of charge.": ["is delivery free", "minimum order for free shipping"],
    "Damaged parcels are replaced at once.": ["box arrived broken", "my item is damaged"],
    "Business customers get a monthly statement.": ["bill for companies", "invoice once per month"],
    "Students get ten percent off with a card.": ["discount for students", "reduced price at university"],
}


def write(folder: str) -> None:
    """Write the collection as a BEIR folder, the questions dealt out to train, dev and test."""
    texts, splits = list(FACTS), {"train": ({}, {}), "dev": ({}, {}), "test": ({}, {})}
    for number, questions in enumerate(FACTS.values()):
        for which, question in enumerate(questions):
            part = "train" if which == 0 else ("dev", "test")[number % 2]
            queries, qrels = splits[part]
            queries[f"q{number}-{which}"] = question
            qrels[f"q{number}-{which}"] = {f"d{number}": 1}
    made = {name: Split(name, queries, qrels) for name, (queries, qrels) in splits.items()}
    write_beir(Collection("shop", [f"d{i}" for i in range(len(texts))], texts, made), folder)


write("shop")
