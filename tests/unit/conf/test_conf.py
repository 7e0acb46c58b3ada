"""Configuration: what users write wrong is named with file, line and key; what they add or change takes effect."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness import conf, paths
from harness.conf.model import Guest, Ready
from harness.conf.units import seconds
from harness.errors import ConfigError

HURD = (paths.DATA / "docs/hurd.md").read_text()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("guests:\n  linux-i386:\n    memry: 3\n", ":3: guests.linux-i386.memry: unknown key; did you mean memory?"),
        ("guests: [\n", "not valid YAML"),
        ("- a\n", "must be a mapping"),
        ("variants:\n  x: {}\n  x: {}\n", ":3: x is given twice"),
        ("guests:\n  linux-i386:\n    memory: lots\n", ":3: guests.linux-i386.memory: "),
        (
            "guests:\n  linux-i386:\n    toolchain: linux-i368\n",
            "no toolchain named linux-i368; did you mean linux-i386?",
        ),
        ("guests:\n  new: {toolchain: linux-i386, signals: linux}\n", ":2: guests.new: has neither kernel nor disk"),
        ("guests:\n  new: {signals: linux, kernel: /k}\n", ":2: guests.new.toolchain: is missing"),
        ("guests:\n  new: {toolchain: linux-i386, kernel: /k}\n", ":2: guests.new: has neither system nor signals"),
        (
            "guests:\n  linux-i386:\n    system: hrud\n",
            ":3: guests.linux-i386.system: no system named hrud; did you mean",
        ),
        ("guests:\n  linux-i386: {signals: lixun}\n", "no signals named lixun; did you mean linux?"),
        ("guests:\n  linux-i386:\n    ready:\n      console: '('\n", "is not a regular expression"),
        ("guests:\n  linux-i386:\n    ready: {timeout: soon}\n", "'soon' is not a time such as 30s"),
        ("guests:\n  linux-i386:\n    set_clock: date {foo}\n", ":3: guests.linux-i386.set_clock: 'date {foo}': its"),
        ("guests:\n  linux-i386:\n    set_clock: 'date {'\n", ":3: guests.linux-i386.set_clock: 'date {': its only"),
        ("guests:\n  linux-i386:\n    set_clock: date {} {seconds.x}\n", ":3: guests.linux-i386.set_clock: "),
        (
            "guests:\n  linux-i386:\n    data_disk: {mount: 'mount {disk} {folder}'}\n",
            ":3: guests.linux-i386.data_disk.mount: 'mount {disk} {folder}': its only fields are {device} and {folder}",
        ),
        ("guests:\n  linux-i386:\n    data_disk: {mount: 'x {'}\n", ":3: guests.linux-i386.data_disk.mount: 'x {': "),
        ("guests:\n  linux-i386:\n    data_disk: {interface: usb}\n", ":3: guests.linux-i386.data_disk.interface: "),
        ("guests:\n  linux-i386:\n    data_disk: {mounts: x}\n", "unknown key; did you mean mount?"),
        (
            "guests:\n  linux-i386:\n    data_disk: {unmount: 'umount {device}'}\n",
            ":3: guests.linux-i386.data_disk.unmount: 'umount {device}': its only field is {folder}, and a plain brace",
        ),
        (
            "guests:\n  linux-i386:\n    channel: ttyS1\n",
            ":3: guests.linux-i386.channel: 'ttyS1' is neither an absolute path, such as /dev/ttyS1, nor empty",
        ),
        (
            "guests:\n  linux-i386:\n    ssh: {host_key: foo bar}\n",
            ":3: guests.linux-i386.ssh.host_key: 'foo bar' is not TYPE BASE64, as in ssh_host_*_key.pub; known types: ",
        ),
        ("guests:\n  linux-i386:\n    ssh: {host_key: ssh-ed25519}\n", "'ssh-ed25519' is not TYPE BASE64"),
        ("guests:\n  linux-i386:\n    ssh: {host_key: ssh-ed25519 A}\n", ".ssh.host_key: 'A' is not base64"),
        ("guests:\n  linux-i386:\n    folder: tmp\n", ":3: guests.linux-i386.folder: 'tmp' is not an absolute path"),
        ("guests:\n  linux-i386:\n    memory: 1048577\n", ":3: guests.linux-i386.memory: input should be less"),
        *(
            (
                f"guests:\n  linux-i386:\n    signals: {{{wrong}: A}}\n",
                f".signals: {wrong} is not the number of a signal",
            )
            for wrong in (999, 0, -1, 128, "'x'")
        ),
        ("variants:\n  ../x: {}\n", ":2: variants.../x: variant '../x': a name has letters, digits"),
        ("variants:\n  a+trace: {}\n", ":2: variants.a+trace: variant 'a+trace': a name has letters, digits"),
        ("variants:\n  '': {}\n", "variant '': a name has letters, digits"),
        ("variants:\n  x: {env: {'A=B': c}}\n", ":2: variants.x.env: 'A=B' cannot be the name of an environment var"),
        ("variants:\n  x: {env: {'': c}}\n", ":2: variants.x.env: '' cannot be the name"),
        ("guests:\n  linux-i386:\n    env: {A B: c}\n", ":3: guests.linux-i386.env: 'A B' cannot be the name"),
        ('variants:\n  x: {env: {A: "b\\0"}}\n', ":2: variants.x.env: the environment variable A cannot hold a NUL"),
        ("guests:\n  x: {<<: [1]}\n", ":2: <<: must be one mapping"),
        ("variant: {}\n", ":1: variant: unknown key; did you mean variants?"),
        (
            "toolchains:\n  hurd-i386:\n    build: {patch: []}\n",
            ":3: toolchains.hurd-i386.build.patch: unknown key; did you mean patches?",
        ),
        (
            "guests:\n  linux-i386: {modules: [{file: a}], initrd: b}\n",
            ":2: guests.linux-i386: has both initrd and mod",
        ),
        ("guests:\n  linux-i386:\n    disk: none\n", ":3: guests.linux-i386.disk: must be a mapping"),
        ("variants:\n  x: {prebuilt: true, flags: [-O0]}\n", "a prebuilt libgo cannot be patched"),
        ("guests:\n  x: {1.5: 2}\n", ":2: a key must be a word or a number"),
        ("guests:\n  linux-i386: {memory: 2020-13-45}\n", ":2: not a value: 2020-13-45"),
        ("guests:\n  linux-i386: {2020-13-45: x}\n", ":2: not a value: 2020-13-45"),
        ('guests:\n  linux-i386: {memory: !!int ""}\n', ":2: not a value: "),
        ("variants:\n  a: &x {env: *x}\n", ":2: holds itself by an alias"),
        ("a: &a\n  - *a\n", ":1: holds itself by an alias"),
        ("a: &a {<<: *a}\n", ":1: holds itself by an alias"),
        (
            "expected:\n  - {guest: linux-i368, program: x, reason: r, verdict: crash, expires: 2030-01-01}\n",
            "no guest named linux-i368",
        ),
    ],
)
def test_wrong_yaml_is_named(write, text, message):
    with pytest.raises(ConfigError) as caught:
        conf.load([write("mine.yaml", text)])
    assert message in str(caught.value)
    assert "mine.yaml" in str(caught.value)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        pytest.param(["a: " + "[" * 5000], "is nested too deeply", id="brackets"),
        pytest.param(
            # what is taken over is made first
            [*(f"a{n}: &a{n} {{k: *a{n - 1}}}" for n in range(1, 2000)), "<<: *a1999"],
            "is nested too deeply",
            id="chain",
        ),
        pytest.param(
            [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 8)],
            r"mine\.yaml: has more than 100000 values",
            id="bomb",
        ),
    ],
)
def test_a_file_that_would_never_be_read_to_its_end(write, lines, message):
    mine = write("mine.yaml", "\n".join(["a0: &a0 [x]", *lines]))
    with pytest.raises(ConfigError, match=message):
        conf.load([mine])


@pytest.mark.parametrize("data", [b"\xff\xfe", b"\x00"])
def test_a_file_that_is_no_text(write, data):
    with pytest.raises(ConfigError):
        conf.load([write("mine.yaml", data)])


def test_a_missing_file(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read"):
        conf.load([tmp_path / "none.yaml"])


def test_a_pipe_or_device_is_not_waited_for():
    with pytest.raises(ConfigError, match="/dev/null: cannot be read: it is no regular file"):
        conf.load([Path("/dev/null")])  # one that has an end, so that this test has one too


def test_own_yaml_adds_and_changes_single_fields(write):
    mine = write(
        "mine.yaml",
        "guests:\n"
        "  linux-i386: {memory: 768}\n"
        "  hurd: {toolchain: linux-i386, kernel: ./gnumach, signals: hurd,\n"
        "         modules: [{file: ext2fs.static, args: a}], env: {CRASHSERVER: /servers/crash-kill, N: 3}}\n"
        "variants:\n  four: {env: {GOMAXPROCS: 4}}\n",
    )
    result = conf.load([mine])
    assert result.guest("linux-i386").memory == 768
    assert result.guest("linux-i386").kernel == "vmlinuz"
    assert result.guest("hurd").env == {"CRASHSERVER": "/servers/crash-kill", "N": "3"}
    assert result.file("./gnumach", "guests", "hurd", "kernel") == mine.parent / "./gnumach"
    assert result.variant("four").env == {"GOMAXPROCS": "4"}
    assert "pristine" in result.variants


def test_what_a_guest_may_say_at_its_limits(write):
    mine = write(
        "mine.yaml",
        "guests:\n  linux-i386:\n    set_clock: date -s @{seconds} && echo ${{x}}\n"
        "    ssh: {host_key: ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAA root@here}\n    memory: 1048576\n"
        "    folder: /var/tmp/harness\n",
    )
    assert conf.load([mine]).guest("linux-i386").set_clock.format(seconds=1) == "date -s @1 && echo ${x}"


def test_a_mapping_takes_over_another_s_keys(write):
    mine = write(
        "mine.yaml",
        "guests:\n"
        "  one: &one {toolchain: linux-i386, kernel: /k, signals: linux, memory: 99, disk: {file: /d}}\n"
        "  two:\n    memory: 77\n    <<: *one\n    kernel: /other\n"
        "  three: {<<: *one, memry: 33}\n",
    )
    with pytest.raises(ConfigError, match=r"mine\.yaml:7: guests\.three\.memry: unknown key"):
        conf.load([mine])
    mine.write_text(mine.read_text().replace("memry", "memory"))
    guest = conf.load([mine]).guest("two")
    assert (guest.memory, guest.kernel, guest.disk.file) == (77, "/other", "/d")


def test_a_path_that_is_absolute_or_at_home_lies_beside_no_file(monkeypatch, write):
    monkeypatch.setenv("HOME", "/home/me")
    result = conf.load([write("mine.yaml", "guests:\n  mine: {toolchain: linux-i386, kernel: k, system: posix}\n")])
    at = ("guests", "mine", "kernel")
    assert [str(result.file(value, *at)) for value in ("/k", "~/k")] == ["/k", "/home/me/k"]
    assert result.file("k", *at) is None and result.beside("k", *at).name == "k"


def test_unknown_names_get_the_nearest():
    result = conf.load()
    with pytest.raises(ConfigError, match="variant distro is prebuilt and cannot be traced"):
        result.variant("distro+trace")
    with pytest.raises(ConfigError, match="did you mean linux-i386"):
        result.guest("linux-i368")
    with pytest.raises(ConfigError, match="did you mean pristine"):
        result.variant("pristin")


@pytest.mark.parametrize(
    ("message", "ten", "crash"),
    [
        ("signals: linux", "SIGUSR1", {}),
        ("signals: hurd", "SIGBUS", {"CRASHSERVER": "/servers/crash-kill"}),
        ("system: hurd", "SIGBUS", {"CRASHSERVER": "/servers/crash-kill"}),
        ("system: hurd, signals: {10: TEN}", "SIGTEN", {"CRASHSERVER": "/servers/crash-kill"}),
        ("signals: {10: SIGTEN}", "SIGTEN", {}),
        ("signals: {'10': TEN, 127: LAST}", "SIGTEN", {}),
        ("system: posix", None, {}),
    ],
)
def test_signals_and_ways_are_those_of_the_guest_s_system(write, message, ten, crash):
    result = conf.load([write("h.yaml", f"guests:\n  h: {{toolchain: linux-i386, kernel: /k, {message}}}\n")])
    assert result.signal_names("h").get(10) == ten
    assert result.guest("h").os.kill == crash


def linux_mounts(*disks):
    """The commands that try to mount one of the disks of a Linux guest."""
    return [f"mount -t ext2 -o ro /dev/{disk} /f" for disk in disks]


@pytest.mark.parametrize(
    ("message", "interface", "mounts"),
    [
        ("system: linux, disk: {file: /d}", "virtio", linux_mounts("vdb", "vda")),
        ("system: linux, disk: {file: /d, interface: ide}", "ide", linux_mounts("sdb", "sda")),
        ("system: linux, disk: {file: /d}, data_disk: {interface: ide}", "ide", linux_mounts("sdb", "sda")),
        ("system: linux, disk: {file: /d}, data_disk: {mount: 'm /x {folder}'}", "virtio", ["m /x /f"]),
        ("system: linux, disk: {file: /d}, data_disk: {mount: ''}", None, []),
        ("system: posix, disk: {file: /d}", None, []),
        ("system: posix, disk: {file: /d}, data_disk: {mount: '{{ m; }} /x'}", "virtio", ["{ m; } /x"]),
        ("system: linux, kernel: /k", None, []),
        (
            "system: hurd, disk: {file: /d, interface: ide}",
            "ide",
            [f"settrans -a /f /hurd/ext2fs --readonly /dev/{device}" for device in ("hd1", "wd1")],
        ),
        ("system: hurd, disk: {file: /d}", None, []),  # it has no driver for virtio
    ],
)
def test_the_data_disk_is_as_the_guest_s_disk_and_system_have_it(write, message, interface, mounts):
    guest = conf.load([write("h.yaml", f"guests:\n  h: {{toolchain: linux-i386, {message}}}\n")]).guest("h")
    assert (guest.data_interface, guest.mounts("/f")) == (interface, mounts)


@pytest.mark.parametrize(
    ("message", "interface", "mounts", "channels"),
    [
        ("system: linux, disk: {file: d}", "virtio", linux_mounts("vdc", "vdb"), ("/dev/ttyS1",)),
        ("system: linux, disk: {file: d}, machine: microvm", "virtio", linux_mounts("vdc", "vdb"), ()),
        ("system: linux, disk: {file: d}, channel: ''", "virtio", linux_mounts("vdc", "vdb"), ()),
        ("system: linux, disk: {file: d}, channel: /dev/x", "virtio", linux_mounts("vdc", "vdb"), ("/dev/x",)),
        (
            "system: hurd, disk: {file: d, interface: ide}",
            "ide",
            [f"settrans -a /f /hurd/ext2fs --readonly /dev/{name}" for name in ("hd3", "wd2")],
            ("/dev/com1",),
        ),
        ("system: linux, disk: {file: d}, data_disk: {mount: mount /dev/vdb}", None, [], ("/dev/ttyS1",)),
        ("system: linux, disk: {file: d}, data_disk: {unmount: ''}", None, linux_mounts("vdc", "vdb"), None),
        ("system: linux, disk: {file: d}, qemu_args: [-drive, 'file=x,index=3']", None, None, None),
        ("system: posix, disk: {file: d}", None, [], ()),
        ("system: linux, kernel: ./k", None, [], None),
    ],
)
def test_the_exchange_disk_and_the_channel(write, message, interface, mounts, channels):
    guest = conf.load([write("h.yaml", f"guests:\n  h: {{toolchain: linux-i386, {message}}}\n")]).guest("h")
    assert guest.exchange_interface == interface
    assert mounts is None or guest.exchange_mounts("/f") == mounts
    assert channels is None or guest.channels == channels


@given(st.floats(0.001, 1e6), st.sampled_from([("ms", 0.001), ("s", 1), ("m", 60), ("h", 3600), ("", 1)]))
def test_times(number, unit):
    text, factor = f"{number:.4f}{unit[0]}", unit[1]
    assert seconds(text) == pytest.approx(float(f"{number:.4f}") * factor)


@pytest.mark.parametrize("text", ["", "s", "-1s", "0", "1 2", "1x", True, None])
def test_what_is_no_time(text):
    with pytest.raises(ValueError, match="is not a time"):
        seconds(text)


@pytest.mark.parametrize("block", re.findall(r"^```yaml\n(.*?)^```", HURD, re.MULTILINE | re.DOTALL))
def test_what_the_page_on_the_hurd_shows_is_valid(write, block):
    conf.load([write("mine.yaml", block)])


def test_the_given_hurd_guests_differ_in_their_image_alone():
    newest, release_2023 = conf.load().guest("hurd-i386"), conf.load().guest("hurd-i386-2023")
    assert release_2023.model_copy(update={"image": "hurd-i386"}) == newest
    assert newest.memory <= 2048


BASED = """\
guests:
  mine:
    from: linux-i386
    memory: 1024
    ready: {timeout: 5m}
  small:
    from: mine
    initrd:
    disk: {format: qcow2}
"""


def test_a_guest_is_another_with_single_fields_changed(write):
    guests = conf.load([write("mine.yaml", BASED)]).guests
    control, mine, small = guests["linux-i386"], guests["mine"], guests["small"]
    ready = control.ready.model_copy(update={"timeout": 300.0})
    assert mine == control.model_copy(update={"memory": 1024, "ready": ready})
    disk = control.disk.model_copy(update={"format": "qcow2"})
    assert small == mine.model_copy(update={"initrd": None, "disk": disk})


def test_a_later_file_changes_a_guest_and_not_those_that_were_made_from_it(write):
    first, second = write("first.yaml", BASED), write("second.yaml", "guests:\n  linux-i386: {memory: 64}\n")
    guests = conf.load([first, second]).guests
    assert (guests["linux-i386"].memory, guests["small"].memory, guests["linux-amd64"].memory) == (64, 1024, 512)
    guests = conf.load([second, write("third.yaml", "guests:\n  tiny: {from: linux-i386}\n")]).guests
    assert guests["tiny"].memory == 64


def test_a_field_that_is_null_is_as_if_nobody_had_given_it(write):
    text = "guests:\n  a: {from: linux-i386, memory: 64, provides: [x], env: {A: b, C: d}}\n"
    text += "  b: {from: a, memory: null, provides: null, env: {A: null}, ready: {command: null}}\n"
    text += "  linux-amd64: {ready: null}\n"
    configuration = conf.load([write("mine.yaml", text)])
    usual, guest = Guest.model_fields, configuration.guests["b"]
    assert guest.memory == usual["memory"].default and guest.provides == [] and guest.env == {"C": "d"}
    assert guest.ready.command == Ready().command and guest.ready.console
    assert configuration.guests["linux-amd64"].ready == Ready()
    assert configuration.where(("guests", "linux-amd64", "ready")).endswith("mine.yaml:4")
    assert configuration.where(("guests", "linux-amd64", "ready", "console")) == ""


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "  a: {from: b}\n  b: {from: c}\n  c: {from: a}\n",
            ":4: guests.c.from: the guest is based on itself: a from",
        ),
        (
            "  linux-i386:\n    from: linux-i386\n",
            ":3: guests.linux-i386.from: the guest is based on itself; to",
        ),
        ("  linux-amd64: {from: linux-i386}\n", ":2: guests.linux-amd64.from: linux-amd64 is described already"),
        ("  a:\n    from: linux-i368\n", ":3: guests.a.from: no guest named linux-i368; did you mean linux-i386?"),
        ("  a: {from: [x]}\n", ":2: guests.a.from: must be the name of a guest; known: "),
        ("  a: {from: }\n", ":2: guests.a.from: must be the name of a guest; known: "),
        ("  a: {from: linux-i386, toolchain: null}\n", ":2: guests.a.toolchain: is missing"),
        ("  a: {form: linux-i386}\n", ":2: guests.a.form: unknown key; did you mean from?"),
        ("  a: {from: linux-i386}\n  b:\n    from: a\n    memry: 3\n", ":5: guests.b.memry: unknown key"),
    ],
)
def test_a_base_that_cannot_be(write, text, message):
    with pytest.raises(ConfigError) as caught:
        conf.load([write("mine.yaml", f"guests:\n{text}")])
    assert f"mine.yaml{message}" in str(caught.value)


def test_what_is_wrong_with_an_inherited_field_is_told_where_it_is_written(write):
    text = (
        "guests:\n  a:\n    from: linux-i386\n    kernel: ./k\n    qemu_args: [-foo]\n  b:\n    from: a\n    cpus: 2\n"
    )
    configuration = conf.load([write("mine.yaml", text)])
    assert "mine.yaml:5: guests.b.qemu_args.0: bad" in str(configuration.error(("guests", "b", "qemu_args", 0), "bad"))
    assert "mine.yaml:8: guests.b.cpus: bad" in str(configuration.error(("guests", "b", "cpus"), "bad"))
    assert configuration.where(("guests", "b", "nic")).startswith("conf/guests.yaml:")
    assert configuration.where(("guests", "b", "cpu")) == ""
