from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from lab.campaign.read import parse_campaign, read_campaign
from lab.campaign.spec import Campaign, FaultSpace, Limits, Outcomes, Sampling, When
from lab.errors import UserError

if TYPE_CHECKING:
    from pathlib import Path

SYMBOLS = {"main": range(0x1000, 0x1100), "checksum": range(0x2000, 0x2040)}
SPACE = '[[space]]\nmodel = "register-flip"\nfault = { register = "x3", bit = "all" }\n'
SPACE = SPACE.replace('"all"', "{ from = 0, to = 63 }")
HEAD = 'name = "flips"\nguest = "hello"\n'


def parse(text: str) -> Campaign:
    return parse_campaign(text, "c.toml", symbols=SYMBOLS)


def test_a_campaign_has_everything_that_the_file_says() -> None:
    campaign = parse(
        HEAD
        + """
mode = "sample"
seed = 7
prune = false

[machine]
mem = "16M"
smp = 2
rng = true
kaslr = false
no-such = 1
""".replace("no-such = 1\n", "")
        + """
[golden]
max-insns = 1000
hang-factor = 2

[sample]
margin = 0.02
weighting = "uniform"
sequential = true

[outcome]
detected-words = ["FAULT"]
panic-codes = [3, 4]
predicates = ["checks:is_wrong"]

[[space]]
model = "register-flip"
lifespans = ["for ever", 10]
[space.fault]
register = ["x0", "x1"]
bit = { from = 0, to = 62, step = 2 }
[space.when]
windows = [{ from = 5, to = 9 }]
symbols = ["main"]
[[space.also]]
model = "memory-flip"
fault = { space = "pa", address = "checksum+0x10", bit = 3 }
when = { trigger = "retired", count = [1, 2] }
"""
    )
    assert campaign == Campaign(
        name="flips",
        guest="hello",
        mode="sample",
        seed=7,
        prune=False,
        machine=("--mem", "16M", "--smp", "2", "--rng"),
        limits=Limits(max_insns=1000, hang_factor=2.0),
        sample=Sampling(margin=0.02, weighting="uniform", sequential=True),
        outcome=Outcomes(
            detected_words=("FAULT",), panic_codes=(3, 4), predicates=("checks:is_wrong",)
        ),
        spaces=(
            FaultSpace(
                model="register-flip",
                parameters={"register": ["x0", "x1"], "bit": range(0, 63, 2)},
                lifespans=(None, 10),
                when=When(windows=(range(5, 10),), symbols=("main",)),
                also=(
                    FaultSpace(
                        model="memory-flip",
                        parameters={"space": "pa", "address": 0x2010, "bit": 3},
                        when=When(trigger="retired", parameters={"count": [1, 2]}),
                    ),
                ),
            ),
        ),
    )


BAD = {
    "name = 'x'\nguest = ": "c.toml: this is no TOML: Invalid value (at end of document)",
    "guest = 'hello'\n" + SPACE: "c.toml:1: name is missing (A title for reports.)",
    HEAD: "c.toml:1: the campaign 'flips' has no fault space; add a [[space]]",
    HEAD + "moed = 'sample'\n" + SPACE: "c.toml:3: there is no key 'moed'; did you mean 'mode'?",
    HEAD + "mode = 'all'\n" + SPACE: "c.toml:3: mode is one of exhaustive, sample, not 'all'",
    HEAD + "seed = true\n" + SPACE: "c.toml:3: seed is a number, not True",
    HEAD + "seed = -1\n" + SPACE: "c.toml:3: seed is 0 or more, not -1",
    HEAD + "mode = 'sample'\n" + SPACE: (
        "c.toml:1: mode sample needs a size; add [sample] with n or margin"
    ),
    HEAD + "[sample]\nn = 5\n" + SPACE: (
        'c.toml:1: [sample] is for mode = "sample"; set that, or leave the table out'
    ),
    HEAD + "[sample]\nconfidence = 0.9\n" + SPACE: (
        "c.toml:3: a sample needs n or margin; give the number of draws, such as n = 1000"
    ),
    HEAD + "[sample]\nn = 1\nconfidence = 95\n" + SPACE: (
        "c.toml:3: confidence is between 0 and 1, not 95.0"
    ),
    HEAD + "[golden]\nhang-factor = 1\n" + SPACE: (
        "c.toml:3: hang-factor is more than 1, such as 4, not 1.0: a run that ends as the golden "
        "one would hang"
    ),
    HEAD + "[machine]\nmemory = 5\n" + SPACE: (
        "c.toml:4: stage2 run has no --memory for a machine; did you mean 'mem'?"
    ),
    HEAD + "[machine]\nsmp = 1\nmem = '5X'\n" + SPACE: (
        "c.toml:5: --mem is a number such as 64K, 1G, 4096 or 0x1000, not '5X'"
    ),
    HEAD + "[machine]\ngic = 4\n" + SPACE: "c.toml:4: Invalid value for '--gic': '4' is not one of",
    HEAD + "[machine]\nrng = 1\n" + SPACE: "c.toml:4: rng is true or false, not 1",
    HEAD + "[outcome]\npredicates = ['nothing']\n" + SPACE: (
        "c.toml:3: a predicate is written module:function, such as checks:is_wrong, not 'nothing'"
    ),
    HEAD + "[outcome]\npanic-codes = ['a']\n" + SPACE: (
        "c.toml:4: panic-codes is a list of numbers, not with 'a'"
    ),
    HEAD + "[space]\nmodel = 'x'\n": "c.toml:3: space is an array of tables; write [[space]]",
    HEAD + "[[space]]\n": "c.toml:3: a space needs a model, the name of a fault model",
    HEAD + "[[space]]\n\nmodel = 'register-flop'\n": (
        "c.toml:5: no fault model is called 'register-flop'; did you mean 'register-flip'"
    ),
    HEAD + "[[space]]\nmodel = 'register-flip'\n[space.fault]\nbit = 1\nregistre = 'x1'\n": (
        "c.toml:7: there is no key 'registre' in [space.fault]; did you mean 'register'?"
    ),
    HEAD + "[[space]]\nmodel = 'register-flip'\n[space.fault]\nbit = 1\n": (
        "c.toml:3: 'register-flip' needs register"
    ),
    HEAD + "[[space]]\nmodel = 'register-flip'\n[space.fault]\nregister = 'x3'\nbit = 64\n": (
        "c.toml:3: RegisterFlip: bit is 0 to 63"
    ),
    HEAD + "[[space]]\nmodel = 'register-flip'\n[space.fault]\nregister = 'x3'\nbit = 200\n": (
        "c.toml:7: bit is 0 to 127, not 200"
    ),
    HEAD + "[[space]]\nmodel = 'register-flip'\n[space.fault]\nregister = 'x3'\nbit = []\n": (
        "c.toml:3: bit has no value: no fault would be injected; give at least one"
    ),
    HEAD + SPACE.replace("from = 0, to = 63", "from = 9, to = 3"): (
        "c.toml:5: a range goes up, from 9 to at least 9 in steps of 1 or more"
    ),
    HEAD + SPACE + "[space.when]\ntrigger = 'retird'\n": (
        "c.toml:7: no trigger is called 'retird'; did you mean 'retired'?"
    ),
    HEAD + SPACE + "[space.when]\ntrigger = 'retired'\ncuont = 1\n": (
        "c.toml:8: there is no key 'cuont' in [space.when]; did you mean 'count'?"
    ),
    HEAD + SPACE + "[space.when]\nwindows = [5]\n": (
        "c.toml:7: a window is written { from = 100, to = 200 }, both included, not 5"
    ),
    HEAD + SPACE + "[space.when]\nsymbols = ['mian']\n": (
        "c.toml:7: the guest has no symbol 'mian'; did you mean 'main'?"
    ),
    HEAD + SPACE + "lifespans = [0]\n": "c.toml:3: a lifespan is 1 instruction or more, not 0",
    HEAD + SPACE + "lifespans = ['short']\n": (
        "c.toml:6: a lifespan is a number of instructions or \"for ever\", not 'short'"
    ),
    HEAD
    + "[[space]]\nmodel = 'memory-flip'\n[space.fault]\nspace = 'pa'\nbit = 0\naddress = 'all'": (
        "c.toml:3: space and bit and address have 18,446,744,073,709,551,616 values together"
    ),
}


@pytest.mark.parametrize("text", BAD, ids=lambda text: BAD[text][:60])
def test_what_is_wrong_is_said_with_its_line(text: str) -> None:
    with pytest.raises(UserError) as caught:
        parse(text)
    assert str(caught.value).startswith(BAD[text])
    assert "\n" not in str(caught.value)


def test_addresses_may_be_left_to_the_golden_run() -> None:
    space = '[[space]]\nmodel = "descriptor-flip"\n'
    space += 'fault = { stage = 2, level = 3, address = "touched", bit = "all" }\n'
    (found,) = parse(HEAD + space).spaces
    assert found.parameters["address"] == "touched"
    assert found.parameters["bit"] == range(64)


def test_a_guest_is_looked_for_beside_the_file(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text(HEAD.replace("hello", "sub/guest.elf") + SPACE)
    assert read_campaign(path).guest == str(tmp_path / "sub" / "guest.elf")
    path.write_text(HEAD + SPACE)
    assert read_campaign(path).guest == "hello"


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"there is no file .*none\.toml; check the path"):
        read_campaign(tmp_path / "none.toml")
    with pytest.raises(UserError, match=r"cannot read .*: Is a directory"):
        read_campaign(tmp_path)
    (tmp_path / "b.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match="is no text in UTF-8"):
        read_campaign(tmp_path / "b.toml")


def test_a_guest_without_symbols_is_named() -> None:
    text = HEAD.replace("hello", "flat_boot") + SPACE + "[space.when]\nsymbols = ['main']\n"
    with pytest.raises(UserError, match=r"^c\.toml:7: the guest flat_boot has no symbols"):
        parse_campaign(text, "c.toml")


def test_symbols_are_those_of_the_guest() -> None:
    text = HEAD + SPACE + "[space.when]\nsymbols = ['main']\n"
    assert parse_campaign(text, "c.toml").spaces[0].when.symbols == ("main",)
    with pytest.raises(UserError, match=r"^c\.toml:7: .* no symbol 'mains'; did you mean 'main'"):
        parse_campaign(text.replace("main", "mains"), "c.toml")
