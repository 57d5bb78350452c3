"""Zero: the form stands where its own construction puts it, at dW = 0."""

from lorank.lowrank.forms.form import Form, Site
from lorank.lowrank.starts.start import Start, Statistics, start


@start("zero")
class Zero(Start):
    """Leaves every form as it was built."""

    def suits(self, form: type[Form]) -> bool:
        return True

    def fill(self, form: Form, site: Site, statistics: Statistics) -> None:
        pass
