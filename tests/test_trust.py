"""A stranger's yaml builds what is on the list, and does nothing else.

Each attack would leave a file behind if it ran: ``CANARY`` stands for its
path, and no test ends with the file there.
"""

import importlib
import pkgutil
import pydoc

import pytest

from qieemo_sb import encoders, lobes
from qieemo_sb.encoders.base import SpeechEncoder
from qieemo_sb.lobes.blocks import BlockMixer
from qieemo_sb.lobes.tokens import Characters
from qieemo_sb.model import Qieemo
from qieemo_sb.rebuild import Rebuildable
from qieemo_sb.serving.bundle import describe
from qieemo_sb.trust import TRUSTED, UntrustedYaml, load_trusted_yaml

MIXER = "!new:qieemo_sb.lobes.blocks.BlockMixer"
WHISPER = "!new:qieemo_sb.encoders.whisper.WhisperEncoder"
TUPLE = '(!!python/object/apply:os.system ["touch CANARY"],)'


@pytest.fixture
def canary(tmp_path):
    path = tmp_path / "canary"
    yield path
    assert not path.exists(), "The yaml's own command was run."


@pytest.fixture
def refuse(canary):
    """Load a yaml that must be refused; returns the message."""

    def load(text):
        with pytest.raises(UntrustedYaml, match="^stranger") as caught:
            load_trusted_yaml(text.replace("CANARY", str(canary)), "stranger")
        return str(caught.value)

    return load


# What is allowed


def test_plain_values():
    text = "a: 1\nb: [x, 2.5, true, null]\nc: {d: 'e: f', 1: {}}\ng: -1e-3\n"
    assert load_trusted_yaml(text, "here") == {
        "a": 1,
        "b": ["x", 2.5, True, None],
        "c": {"d": "e: f", 1: {}},
        "g": -1e-3,
    }


def test_what_is_on_the_list_is_built():
    mixer = load_trusted_yaml(
        f"m: {MIXER}\n    blocks: [1, 2]\n    d_model: 4\n", "here"
    )["m"]
    assert isinstance(mixer, BlockMixer)
    assert mixer.blocks == [1, 2]


def test_a_reference_is_the_object_itself():
    loaded = load_trusted_yaml(
        f"m: {MIXER} {{blocks: [1], d_model: 4}}\n"
        "a: !ref <m>\nb: {c: !ref <m>}\n",
        "here",
    )
    assert loaded["a"] is loaded["m"] is loaded["b"]["c"]


def test_only_what_is_asked_for_is_built():
    text = (
        f"a: !ref <m>\nm: {MIXER} {{blocks: [1], d_model: 4}}\n"
        "wrong: !new:qieemo_sb.lobes.blocks.BlockMixer {blocks: []}\n"
    )
    loaded = load_trusted_yaml(text, "here", only=["a", "none"])
    assert loaded.keys() == {"a"}
    assert isinstance(loaded["a"], BlockMixer)


def test_what_is_not_asked_for_is_checked(refuse):
    refuse("a: !new:os.system [touch CANARY]")
    text = "a: 1\nb: !new:subprocess.Popen [touch CANARY]"
    with pytest.raises(UntrustedYaml, match="line 2"):
        load_trusted_yaml(text, "stranger", only=["a"])


@pytest.mark.parametrize("tokens", [None, Characters()])
def test_what_we_write_ourselves(make_model, variant, tokens):
    loaded = load_trusted_yaml(describe(make_model(**variant), tokens), "here")
    assert isinstance(loaded["model"], Qieemo)
    assert loaded["modules"]["qieemo"] is loaded["model"]
    assert loaded["pretrainer"].model is loaded["model"]


def test_overrides():
    text = f"a: 1\nm: {MIXER}\n    blocks: [1]\n    d_model: 4\n"
    overrides = {"a": 2, "m": {"blocks": [3]}}
    loaded = load_trusted_yaml(text, "here", overrides)
    assert loaded["a"] == 2
    assert (loaded["m"].blocks, loaded["m"].d_model) == ([3], 4)


def test_override_is_a_value_and_no_yaml(canary):
    command = f"!apply:os.system ['touch {canary}']"
    loaded = load_trusted_yaml("a: 1", "here", {"a": command})
    assert loaded["a"] == command


def test_override_cannot_name_a_source():
    text = f"e: {WHISPER} {{dims: null}}"
    with pytest.raises(UntrustedYaml, match="'source'"):
        load_trusted_yaml(text, "here", {"e": {"source": "someone/whisper"}})


# The list


def classes_of(package):
    """Every Rebuildable that a package's modules define."""
    for _, name, _ in pkgutil.iter_modules(package.__path__):
        module = importlib.import_module(f"{package.__name__}.{name}")
        for value in vars(module).values():
            if isinstance(value, type) and issubclass(value, Rebuildable):
                if value.__module__ == module.__name__:
                    yield f"{module.__name__}.{value.__qualname__}"


@pytest.mark.parametrize("name", sorted(TRUSTED))
def test_trusted_name_is_a_class(name):
    found = pydoc.locate(name)
    assert isinstance(found, type)
    assert f"{found.__module__}.{found.__qualname__}" == name


@pytest.mark.parametrize(
    "name",
    [
        name
        for name in sorted({*classes_of(encoders), *classes_of(lobes)})
        if name != f"{SpeechEncoder.__module__}.SpeechEncoder"
    ],
)
def test_part_of_a_bundle_is_trusted(name):
    assert name in TRUSTED


def test_part_is_found_by_its_module():
    assert f"{BlockMixer.__module__}.BlockMixer" in set(classes_of(lobes))


def test_list_is_short():
    # Exact names: nothing of torch, transformers or the rest of SpeechBrain.
    others = {n for n in TRUSTED if not n.startswith("qieemo_sb.")}
    assert others == {
        "speechbrain.dataio.encoder.CategoricalEncoder",
    }


# What is refused

TAGS = [
    "!apply:os.system [touch CANARY]",
    "!applyref:os.system [touch CANARY]",
    "!new:speechbrain.utils.superpowers.run_shell [touch CANARY]",
    "!apply:speechbrain.utils.superpowers.run_shell [touch CANARY]",
    "!new:subprocess.Popen [touch CANARY]",
    "!new:qieemo_sb.rebuild.Rebuildable",
    "!new:qieemo_sb.lobes.blocks",
    "!new:qieemo_sb.lobes.blocks.BlockMixer.forward",
    "!new:qieemo_sb.lobes.blocks.torch.nn.Linear [1, 1]",
    "!new:",
    "!new: x",
    "!name:os.system",
    "!name:qieemo_sb.lobes.blocks.BlockMixer",
    "!module:os",
    "!include:/etc/hostname",
    "!copy <b>",
    "!tuple (1, 2)",
    "!PLACEHOLDER",
    "!unheard-of 1",
    "! plain",
    "!!python/object/apply:os.system [touch CANARY]",
    "!!python/object/new:os.system [touch CANARY]",
    "!!python/name:os.system",
    "!!python/module:os",
    "!!python/tuple [1, 2]",
    "!!str text",
    "!!binary aGVsbG8=",
    "!!set {a, b}",
    "!!omap [a: 1]",
    "!!map {a: 1}",
    "!<!apply:os.system> [touch CANARY]",
    "!<tag:yaml.org,2002:python/object/apply:os.system> [touch CANARY]",
    "!%61pply:os.system [touch CANARY]",
    "!apply%3Aos.system [touch CANARY]",
    "!!python%2Fobject%2Fapply:os.system [touch CANARY]",
    "!new:qieemo_sb.lobes.blocks.BlockMixe%72%2Eforward {}",
]

# Where a value can stand; every place is on line 3.
PLACES = {
    "value": "b: 1\nc: 2\na: {}\n",
    "item": "b: 1\na:\n  - {}\n",
    "deep": "b: 1\na:\n  {{b: {{c: [[{}]]}}}}\n",
    "key": "b: 1\na: 2\n? {}\n: 3\n",
    "argument": f"b: 1\na: {MIXER}\n  blocks: {{}}\n",
    "anchored": "b: 1\nc: 2\na: &x {}\nd: *x\n",
    "merged": "b: 1\na:\n  <<: {{c: {}}}\n",
}


@pytest.mark.parametrize("tag", TAGS)
def test_tag(refuse, tag):
    message = refuse(PLACES["value"].format(tag))
    assert "stranger, line 3: " in message
    assert message.endswith("Nothing was run.")


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(
    "value", ["!apply:os.system [touch CANARY]", f"'{TUPLE}'"]
)
def test_place(refuse, place, value):
    assert "stranger, line 3: " in refuse(PLACES[place].format(value))


@pytest.mark.parametrize(
    "value",
    [
        TUPLE,
        f"'{TUPLE}'",
        TUPLE.replace('"', "'").join('""'),
        f"|-\n  {TUPLE}",
        f">-\n  {TUPLE}",
        TUPLE.replace('"', "").replace("(", '"\\x28', 1) + '"',
        "&x (1, 2)",
        "(1, 2)",
        "(",
    ],
)
def test_text_that_would_be_a_tuple(refuse, value):
    assert "stranger, line 1: " in refuse(f"a: {value}\n")


@pytest.mark.parametrize(
    "text",
    [
        # Assembled by references, in one step and in more.
        "a: '(x)'\nb: !ref <a>",
        'e: ""\nc: "<e>(1, 2)"\na: !ref <c>',
        "e: \"\"\nc: '<e>(!!python/name:os.system ,)'\na: !ref <c>",
        "a: !ref (<b>)\nb: 1",
        "b: ['(1,)']\na: !ref <b[0]>",
        # An attribute of an object: getattr by a dot.
        f"m: {MIXER} {{blocks: [1], d_model: 4}}\na: !ref <m.forward>",
        "m: os\na: !ref <m.system>",
        'm: 1\nx: "<m.real>"\na: !ref <x>',
    ],
)
def test_references_cannot_assemble(refuse, text):
    refuse(text)


@pytest.mark.parametrize(
    "reference",
    [
        "<b>/x",
        "x<b>",
        "<b> + 1",
        "<b> ** 9",
        "<b><b>",
        '"<b>\\n<b>"',
        "<b.c>",
        "<b",
        "b",
        "''",
        "'<b[c> d]>'",
        "<b[../c]>",
        "[<b>]",
    ],
)
def test_more_than_a_whole_reference(refuse, reference):
    assert "stranger, line 2: " in refuse(f"b: 1\na: !ref {reference}\n")


def test_references_that_are_resolved_twice(refuse):
    # Resolved once: a is `!ref <c>` still, and c the text `<e>(…)`, as an
    # interpolated string literal is evaluated. Twice: a is `(…)`.
    tuple_in_literal = TUPLE.replace('"', "''")
    refuse(
        "a: !ref <b>\n"
        "b: !ref <c>\n"
        "c: !ref <d>\n"
        f"d: '<e>\"\\x3ce\\x3e{tuple_in_literal}\"'\n"
        'e: ""\n'
    )


@pytest.mark.parametrize("argument", ["[/no/such/whisper]", "\n  - /no/such"])
def test_source_by_position(refuse, argument):
    refuse(f"a: {WHISPER} {argument}")


@pytest.mark.parametrize(
    "arguments",
    [
        "{source: x}",
        "{'source': x}",
        '{"s\\x6furce": x}',
        "{? source : x}",
        "{&k source: x}",
        "\n  source: x",
        "\n  ? |-\n    source\n  : x",
        "\n  dims: null\n  ? >-\n    source\n  : x",
    ],
)
def test_source_of_an_encoder(refuse, arguments):
    message = refuse(f"a: {WHISPER} {arguments}\n")
    assert "'source' is not allowed" in message


@pytest.mark.parametrize(
    "text",
    [
        "k: &k {source: someone/whisper}\na: WHISPER {<<: *k}\n",
        "k: {source: someone/whisper}\na: WHISPER {<<: !ref <k>}\n",
        "k: source\na: WHISPER {? !ref <k> : someone/whisper}\n",
        "k: &k source\na: WHISPER {*k : someone/whisper}\n",
    ],
)
def test_source_in_disguise(refuse, text):
    refuse(text.replace("WHISPER", WHISPER))


@pytest.mark.parametrize(
    "directive",
    [
        "%TAG !new! tag:yaml.org,2002:python/object/apply:",
        "%TAG ! tag:yaml.org,2002:",
        "%TAG !! !",
        "%YAML 1.1",
    ],
)
def test_directive(refuse, directive):
    message = refuse(f"{directive}\n---\na: 1\n")
    assert "Directives (%YAML, %TAG) are not allowed." in message


def test_attack_in_a_second_document(refuse):
    message = refuse("a: 1\n---\nb: !apply:os.system [touch CANARY]\n")
    assert "stranger, line " in message


@pytest.mark.parametrize(
    "line_break", ["\r\n", "\r", "\x85", "\u2028", "\u2029"]
)
@pytest.mark.parametrize("head", ["a: 1", "a: 1 # note", "\ufeffa: 1"])
def test_line_breaks_hide_nothing(canary, line_break, head):
    text = f"{head}{line_break}b: !apply:os.system [touch {canary}]"
    with pytest.raises(UntrustedYaml):
        load_trusted_yaml(text, "stranger")


@pytest.mark.parametrize(
    "text",
    [
        # A comment, or text, that a writer could turn into a node.
        "a: 1 # \ufeff\n# b: !apply:os.system [touch CANARY]\n",
        "a: 'x\n\n  b: !apply:os.system [touch CANARY]'\n",
        'a: "x\\nb: !apply:os.system [touch CANARY]"\n',
        'a: "x\\u2028b: !apply:os.system [touch CANARY]"\n',
        f"a: |\n  x\n  {TUPLE}\n",
        f"a: 'x {TUPLE}'\n",
        f"a: ' {TUPLE}'\n",
        f'a: "\\t{TUPLE[:-1]}"\n'.replace('["', "[").replace('"]', "]"),
    ],
)
def test_text_stays_text(canary, text):
    text = text.replace("CANARY", str(canary))
    (value,) = load_trusted_yaml(text, "stranger").values()
    assert isinstance(value, int | str)


@pytest.mark.parametrize(
    "text",
    ["a: [1, 2", "a: b: c", "\tx", "a: \0", "*x", "a: *x", "{a: 1, a: 2}"],
)
def test_broken_yaml_is_an_error(text):
    with pytest.raises(Exception, match=r"(?i)no yaml|alias|duplicate"):
        load_trusted_yaml(text, "stranger")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "hello",
        "[1]",
        "a: 1\n---\nb: 2\n",
        "{a: 1, a: 2}",
        "a: *x",
        "a: !ref <b>",
        "a: !ref <b>\nb: !ref <a>",
        "a: !ref <b[c]>\nb: abc",
        "a: 1\n!ref <a> : 2",
        f"a: {MIXER} {{typo: 1}}",
    ],
)
def test_error_names_the_bundle(text):
    with pytest.raises(ValueError, match="stranger"):
        load_trusted_yaml(text, "stranger")


@pytest.mark.parametrize(
    "text",
    [
        "a: !ref <b>\nb: <c>**9**9\nc: 9\n",
        "x0: lol\n"
        + "".join(f"x{i}: <x{i - 1}><x{i - 1}>\n" for i in range(1, 40))
        + "a: !ref <x39>\n",
        "x0: &x0 [lol]\n"
        + "".join(
            f"x{i}: &x{i} [*x{i - 1}, *x{i - 1}]\n" for i in range(1, 40)
        ),
        "x0: [lol]\n"
        + "".join(
            f"x{i}: [!ref <x{i - 1}>, !ref <x{i - 1}>]\n" for i in range(1, 40)
        ),
        "a: " + "[" * 3_000 + "]" * 3_000,
    ],
    ids=["power", "text", "aliases", "references", "nesting"],
)
def test_bombs_are_refused_or_defused(text):
    try:
        loaded = load_trusted_yaml(text, "stranger")
    except UntrustedYaml:
        return
    assert not isinstance(loaded.get("a"), int)
