"""Variants put together as A+B, and what variants say of preloads and seeds."""

import pytest

from harness import conf
from harness.errors import ConfigError

VARIANTS = """
variants:
  first: {about: one thing, patches: [first.patch], flags: [-O1], configure: [a=1], env: {A: 1, B: 1}, lacks: [x]}
  second: {about: another, patches: [s/second.patch], flags: [-O2], configure: [b=2], env: {B: 2}, lacks: [y]}
  silent: {env: {C: 3}}
  slow: {preload: slow.c}
  both: {preload: [slow.c, ./more/loud.c], seeded: true}
  tree: {tree: work}
  other-tree: {tree: elsewhere}
  as-it-came: {prebuilt: true}
  hurd: {only: [i686-gnu, x86_64-gnu]}
  little: {only: [i686-gnu, i686-linux-gnu]}
"""


@pytest.fixture
def configuration(write):
    return conf.load([write("mine.yaml", VARIANTS)])


def test_two_variants_are_both(configuration):
    variant = configuration.variant("first+second")
    assert variant.about == "one thing; another"
    assert variant.patches == ["first.patch", "s/second.patch"]
    assert (variant.flags, variant.configure, variant.lacks) == (["-O1", "-O2"], ["a=1", "b=2"], ["x", "y"])
    assert variant.env == {"A": "1", "B": "2"}
    assert configuration.variant("second+first").env["B"] == "1", "the last one's environment counts"
    assert configuration.variant("silent+first").about == "one thing"


def test_three_variants_are_put_together_in_their_order(configuration, tmp_path):
    name = "second+both+first"
    assert configuration.patches(name) == [tmp_path / "s/second.patch", tmp_path / "first.patch"]
    assert configuration.preloads(name) == [tmp_path / "slow.c", tmp_path / "more/loud.c"]
    assert configuration.variant(name).seeded and not configuration.variant("second+first").seeded


def test_a_name_put_together_can_be_traced(configuration, tmp_path):
    assert configuration.variant("first+slow+trace").trace
    assert not configuration.variant("first+slow").trace
    assert configuration.patches("first+slow+trace") == [tmp_path / "first.patch"]
    assert configuration.preloads("first+slow+trace") == [tmp_path / "slow.c"]
    assert configuration.tree("slow+tree+trace") == tmp_path / "work"


@pytest.mark.parametrize("name", ["tree+slow", "slow+tree"])
def test_a_work_tree_may_be_any_of_several(configuration, tmp_path, name):
    assert configuration.tree(name) == tmp_path / "work"
    assert configuration.variant(name).tree == "work"
    assert configuration.tree("slow+first") is None


def test_one_preload_is_a_list_of_one(configuration, tmp_path):
    assert configuration.variant("slow").preload == ["slow.c"]
    assert configuration.preloads("slow+both") == [tmp_path / "slow.c", tmp_path / "slow.c", tmp_path / "more/loud.c"]


@pytest.mark.parametrize(
    ("name", "fitting"),
    [
        ("hurd+first", {"i686-gnu", "x86_64-gnu"}),
        ("first+hurd", {"i686-gnu", "x86_64-gnu"}),
        ("hurd+little", {"i686-gnu"}),
        ("first+slow", {"i686-gnu", "x86_64-gnu", "i686-linux-gnu"}),
    ],
)
def test_variants_put_together_are_for_the_systems_of_both(configuration, name, fitting):
    variant = configuration.variant(name)
    assert {triple for triple in ("i686-gnu", "x86_64-gnu", "i686-linux-gnu") if variant.fits(triple)} == fitting


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("as-it-came+first", "variant as-it-came+first: a prebuilt libgo cannot be changed"),
        ("as-it-came+tree", "a prebuilt libgo cannot be changed"),
        ("slow+as-it-came", "variant slow+as-it-came: name the prebuilt libgo first"),
        ("tree+other-tree", "cannot be put together, for each has a work tree"),
        ("as-it-came+slow+trace", "variant as-it-came+slow is prebuilt and cannot be traced"),
        ("first+secnd", "no variant named secnd; did you mean second?"),
        ("frst+second", "no variant named frst; did you mean first?"),
        ("first+second+first", "variant first+second+first: names a variant twice"),
        ("first+", "no variant named ;"),
        ("first+trace+second", "no variant named trace;"),
    ],
)
def test_what_cannot_be_put_together(configuration, name, message):
    with pytest.raises(ConfigError) as caught:
        configuration.variant(name)
    assert message in str(caught.value)


def test_a_prebuilt_libgo_may_preload(configuration):
    variant = configuration.variant("as-it-came+both+silent")
    assert (variant.prebuilt, len(variant.preload), variant.seeded, variant.env) == (True, 2, True, {"C": "3"})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("variants:\n  x: {preload: 3}\n", ":2: variants.x.preload"),
        ("variants:\n  x: {preload: ['']}\n", ":2: variants.x.preload"),
        ("variants:\n  x: {seeded: perhaps}\n", ":2: variants.x.seeded"),
        ("variants:\n  x: {preloads: a.c}\n", ":2: variants.x.preloads: unknown key; did you mean preload?"),
        ("variants:\n  trace: {}\n", "variant 'trace': NAME+trace is the life-cycle trace of NAME"),
        ("variants:\n  a+b: {}\n", ":2: variants.a+b: variant 'a+b': a name has letters, digits"),
    ],
)
def test_wrong_preloads_and_seeds_are_named(write, text, message):
    with pytest.raises(ConfigError) as caught:
        conf.load([write("mine.yaml", text)])
    assert message in str(caught.value)


EXPECTED = "expected:\n  - {{variant: '{}', program: x, reason: r, verdict: crash, expires: 2100-01-01}}\n"


def test_a_known_failure_may_be_of_variants_put_together(write):
    for name in ("first+slow", "first+slow+trace", "*+slow"):
        conf.load([write("mine.yaml", VARIANTS + EXPECTED.format(name))])
    with pytest.raises(ConfigError, match="no variant named frst; did you mean first"):
        conf.load([write("mine.yaml", VARIANTS + EXPECTED.format("frst+slw"))])


def test_variants_for_different_systems_cannot_be_put_together(write):
    text = "variants:\n  here: {only: [i686-gnu]}\n  there: {only: [i686-linux-gnu]}\n"
    with pytest.raises(ConfigError, match="variant here\\+there"):
        conf.load([write("mine.yaml", text)]).variant("here+there")


@pytest.mark.parametrize("name", ["first+slw", "frst+slow", "*+slw"])
def test_a_known_failure_of_an_unknown_part_is_refused(write, name):
    with pytest.raises(ConfigError, match="no variant named"):
        conf.load([write("mine.yaml", VARIANTS + EXPECTED.format(name))])
