"""A report's page, read as a browser reads it, but for its script."""

import json
from html.parser import HTMLParser

from harness.results import page
from harness.results.matrix import TRIAL_VERDICTS


class Page(HTMLParser):
    """The elements of a page, and the text of each script and style."""

    def __init__(self, text):
        super().__init__()
        self.elements = []
        self.texts = []
        self.inside = False
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        self.inside = tag in ("script", "style")
        if self.inside:
            self.texts.append((tag, dict(attrs), ""))

    def handle_endtag(self, tag):
        self.inside = False

    def handle_data(self, data):
        if self.inside:
            tag, attrs, text = self.texts[-1]
            self.texts[-1] = (tag, attrs, text + data)

    def all(self, tag):
        return [attrs for name, attrs in self.elements if name == tag]

    def data(self, identity):
        (text,) = (text for _, attrs, text in self.texts if attrs.get("id") == identity)
        return json.loads(page.unpack(text))

    def trials(self):
        """Each trial's short facts by its id, each with its long ones."""
        data = self.data("trials")
        begins, signals = data.pop("begins"), data.pop("signals")
        blocks = {
            name: [trial for place in range(len(begins[name])) for trial in self.data(f"{name}-{place}")]
            for name in ("passed", "others")
        }
        trials = {}
        for row in zip(*data.values(), strict=True):
            trial = dict(zip(data, row, strict=True))
            trial["verdict"] = TRIAL_VERDICTS[trial["verdict"]]
            trial["signal"] = signals[trial["signal"]]
            trial |= blocks["passed" if trial["verdict"] == "pass" else "others"][trial["detail"]]
            trials[trial["id"]] = trial
        return trials
