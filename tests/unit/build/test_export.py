"""Export data compared by meaning: real ones of gccgo, with everything renumbered that may be, and changed for real."""

import re
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.build.export import same

BODY = """package demo

type Shape interface { Area() int; Name() (string, error) }
type pair struct { a, b *pair; m map[string][]int; f func(int32, ...string) (bool, chan<- int) }
type Sized [8]byte
type other [8]int32

const Limit = 77

var Table [4]pair
var Others []other

func (s Sized) Len() int { return len(s) + 0 }
func Twice(x int) int { return x * 2 }
func Deep(p *pair) *pair { if p.a != nil { return p.a }; return p.b }
func hidden(x other) int { return int(x[0]) }

func Long() int {
	n := 0
	defer func() { n-- }() // so it cannot be inlined
	BODY
	return n
}
"""


def export_data(tools, folder, body="n++", text=BODY):
    """The export data that gccgo writes for a package."""
    source = folder / "demo.go"
    source.write_text(text.replace("BODY", body))
    subprocess.run([tools.gccgo, "-O2", "-g", "-c", "-o", folder / "demo.o", source], check=True, cwd=folder)
    section = f".go_export={folder / 'text'}"
    subprocess.run([tools.tool("objcopy"), "--dump-section", section, folder / "demo.o", folder / "copy.o"], check=True)
    return (folder / "text").read_text(encoding="latin-1")


@pytest.fixture(scope="module")
def plain(tools, tmp_path_factory):
    return export_data(tools, tmp_path_factory.mktemp("export"))


def renumber(text, order, ahead, lines):
    """The same export data as if the compiler had met its types, results and lines in another order."""
    numbers = re.findall(r"^type (\d+) ", text, re.MULTILINE)
    named = [n for n in numbers if re.search(rf'^type {n} "[^."]', text, re.MULTILINE)]
    free = [n for n in numbers if n not in named]
    to = dict(zip(free, (free[i] for i in order(len(free))), strict=True))
    text = re.sub(r"(<type |^type )(\d+)", lambda m: m[1] + to.get(m[2], m[2]), text, flags=re.MULTILINE)
    text = re.sub(r"\$ret(\d+)", lambda m: f"$ret{int(m[1]) + ahead}", text)
    text = re.sub(r" //(\d+)$", lambda m: f" //{int(m[1]) + lines}", text, flags=re.MULTILINE)
    return re.sub(r"<inl:\d+>", f"<inl:{lines + 1}>", text)


@given(st.data())
def test_numbers_do_not_count(plain, data):
    def order(size):
        return data.draw(st.permutations(range(size)))

    other = renumber(plain, order, data.draw(st.integers(0, 99)), data.draw(st.integers(0, 999)))
    assert same(plain, other) and same(other, plain)


def test_the_data_have_all_that_is_compared(plain):
    assert len(re.findall(r"^type ", plain, re.MULTILINE)) > 12
    assert "$ret" in plain and re.search(r" //\d+$", plain, re.MULTILINE) and "<inl:" in plain


def test_a_function_s_body_does_not_count_unless_it_can_be_inlined(tools, plain, tmp_path):
    assert same(plain, export_data(tools, tmp_path, "for i := range Others { n += hidden(Others[i]) }"))
    assert not same(plain, export_data(tools, tmp_path, text=BODY.replace("x * 2", "x * 3")))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("Limit = 77", "Limit = 78"),
        ("[8]byte", "[9]byte"),
        ("a, b *pair", "b, a *pair"),
        ("...string", "string"),
        ("chan<- int", "<-chan int"),
        ("Name() (string, error)", "Name() (string, int)"),
        ("Table [4]pair", "Table [4]*pair"),
        ("Others []other", "Others []Sized"),
        ("func hidden", "func Hidden"),
        ("x * 2", "2 * x"),
    ],
)
def test_a_visible_change_counts(tools, plain, tmp_path, old, new):
    assert old in BODY
    assert not same(plain, export_data(tools, tmp_path, text=BODY.replace(old, new)))


@given(st.data())
def test_any_other_change_counts(plain, data):
    """A digit or letter changed anywhere but in what is left out makes a difference, or names another type."""
    spots = [
        m.start() for m in re.finditer(r"(?<=[ .(])[A-Za-z]\w+", plain) if "//" not in plain[m.start() - 80 : m.start()]
    ]
    at = data.draw(st.sampled_from(spots))
    line = plain[plain.rfind("\n", 0, at) + 1 : plain.find("\n", at)]
    if line.startswith(("types ", "checksum ", " //")):
        return
    assert not same(plain, plain[:at] + "Zz" + plain[at:])
