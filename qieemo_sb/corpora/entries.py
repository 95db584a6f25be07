"""Facts about corpora whose labels stand in file names, an entry each.

`named` reads them. To add a corpus, add its entry above ``CORPORA``: the recipe
in recipes/RAVDESS (``--corpus NAME``), its prepare script, `emobox` and
`multi` then know it.

Emotions have one name in all corpora, one of ``EMOTIONS``.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product

EMOTIONS = tuple(
    "neutral calm happy sad angry fearful disgust surprised bored".split()
)


@dataclass(frozen=True)
class NamedCorpus:
    """All that is to be known about a corpus.

    Arguments
    ---------
    name : str
        As in the yaml's ``corpus``.
    source : str
        What the data folder holds and where to get it.
    language : str, or mapping of str to str
        Language code, or such a code by code of the group ``speaker``.
    pattern : str
        Regular expression of a clip's path without suffix, from some folder
        on to the end: mostly the file name alone; with ``/`` folders, too.
        Its group ``emotion`` is required; ``speaker``, ``sentence`` and
        ``gender`` are used where they are there. Other files are ignored.
    emotions : mapping of str to str
        Code of the group ``emotion`` → label, in the order of a classifier's
        outputs.
    speaker : str
        Name of a speaker; ``{speaker}`` and other groups are filled in.
    sentences : mapping of str to str, or str
        Code of the group ``sentence`` → transcript, or one text in which
        groups are filled in, such as ``"Say the word {sentence}"``.
    genders : mapping of str to str
        Code of the group ``gender``, or ``speaker`` where there is no such
        group, → F or M.
    folds : mapping of int to sequence of str, or int
        Official folds, number → names of the test speakers, or the number of
        folds to which speakers are dealt at random.
    sentence_folds : int
        Number of sentence codes, where words give emotions away and folds
        that leave sentences out are of use; else 0.
    stems : frozenset of str
        File names of all clips, where they follow a rule; an error then
        names the missing ones.
    counts : mapping of str to int
        Where they do not: label → number of clips, and "speakers".
    utt_id : str
        Name of a clip; ``{stem}`` (its file name) and groups are filled in.
    left_out : mapping of str to str
        Name of a clip that nothing can be learned from → why.
    table : str
        A file with commas or, if it is called .tsv, tabs, that may lie in the
        data folder: a header, then a line a clip, its file name first.
    words : str
        Column of the table with transcripts.
    votes : mapping of str to str
        Column of the table with numbers of listeners → label they chose.
    folder : str
        Usual name of the data folder; "": that in ``names``.
    """

    name: str
    source: str
    language: str | Mapping[str, str]
    pattern: str
    emotions: Mapping[str, str]
    speaker: str = "{speaker}"
    sentences: Mapping[str, str] | str = ""
    genders: Mapping[str, str] = field(default_factory=dict)
    folds: Mapping[int, Sequence[str]] | int = 5
    sentence_folds: int = 0
    stems: frozenset[str] = frozenset()
    counts: Mapping[str, int] = field(default_factory=dict)
    utt_id: str = "{stem}"
    left_out: Mapping[str, str] = field(default_factory=dict)
    table: str = ""
    words: str = ""
    votes: Mapping[str, str] = field(default_factory=dict)
    folder: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the data folder, as EmoBox spells it, and the corpus's."""
        small = re.sub(r"\W", "", self.name).lower()
        return self.folder or small, small, self.name


def codes(text: str) -> dict[str, str]:
    """Labels by code, of a text such as "N neutral, F happy"."""
    return dict(pair.split() for pair in text.split(", "))


def counts(text: str, speakers: int) -> dict[str, int]:
    """Numbers by label, of a text such as "neutral 79, happy angry 71"."""
    numbers: dict[str, int] = {}
    for group in text.split(", "):
        *labels, number = group.split()
        numbers.update(dict.fromkeys(labels, int(number)))
    return {**numbers, "speakers": speakers}


def sexes(women: str, men: str) -> dict[str, str]:
    """F or M by speaker, of their names with spaces between them."""
    return {
        **dict.fromkeys(women.split(), "F"),
        **dict.fromkeys(men.split(), "M"),
    }


# Livingstone and Russo (2018), PLoS ONE 13(5): e0196391. A name is
# 03 (audio) 01 (speech) EMOTION INTENSITY STATEMENT REPETITION ACTOR; actors
# of odd numbers are men, neutral is never strong. The folds are EmoBox's.
RAVDESS = NamedCorpus(
    name="RAVDESS",
    source="RAVDESS is needed: data_folder is the folder that holds Actor_01 "
    "... Actor_24.\nAudio_Speech_Actors_01-24.zip is at "
    "https://zenodo.org/records/1188976",
    language="en",
    pattern=r"03-01-(?P<emotion>\d\d)-\d\d-(?P<sentence>\d\d)-\d\d"
    r"-(?P<speaker>\d\d)",
    emotions={
        f"{code:02}": label
        for code, label in enumerate(
            "neutral calm happy sad angry fearful disgust surprised".split(), 1
        )
    },
    speaker="Actor_{speaker}",
    sentences={
        "01": "kids are talking by the door",
        "02": "dogs are sitting by the door",
    },
    genders={f"{actor:02}": "FM"[actor % 2] for actor in range(1, 25)},
    folds={
        1: ("Actor_01", "Actor_11", "Actor_20", "Actor_21"),
        2: ("Actor_04", "Actor_10", "Actor_12", "Actor_14"),
        3: ("Actor_08", "Actor_09", "Actor_19", "Actor_23"),
        4: ("Actor_03", "Actor_05", "Actor_07", "Actor_24"),
        5: ("Actor_02", "Actor_15", "Actor_16", "Actor_18"),
        6: ("Actor_06", "Actor_13", "Actor_17", "Actor_22"),
    },
    stems=frozenset(
        f"03-01-{emotion:02}-{intensity:02}-{statement:02}-{repetition:02}"
        f"-{actor:02}"
        for emotion, intensity, statement, repetition, actor in product(
            range(1, 9), (1, 2), (1, 2), (1, 2), range(1, 25)
        )
        if (emotion, intensity) != (1, 2)
    ),
)

# Cao et al. (2014), IEEE Trans. Affective Computing 5(4). A name is
# ACTOR_SENTENCE_EMOTION_LEVEL. No official folds leave speakers out.
CREMAD = NamedCorpus(
    name="CREMA-D",
    source="CREMA-D is needed: data_folder is the folder that holds "
    "1001_DFA_ANG_XX.wav and its like.\nIts AudioWAV is at "
    "https://github.com/CheyneyComputerScience/CREMA-D",
    language="en",
    pattern="(?P<speaker>1\\d{3})_(?P<sentence>[A-Z]{3})_(?P<emotion>[A-Z]{3})"
    "_(?:LO|MD|HI|XX?)",
    emotions=codes(
        "NEU neutral, HAP happy, SAD sad, ANG angry, FEA fearful, DIS disgust"
    ),
    counts=counts(
        "neutral 1087, happy angry fearful disgust 1271, sad 1270", 91
    ),
    left_out={"1076_MTI_SAD_XX": "it is silent"},
    table="voice_votes.csv",
    votes=codes(
        "neutral neutral, happy happy, sad sad, anger angry, fear fearful, "
        "disgust disgust"
    ),
    sentences={
        "IEO": "It's eleven o'clock",
        "TIE": "That is exactly what happened",
        "IOM": "I'm on my way to the meeting",
        "IWW": "I wonder what this is about",
        "TAI": "The airplane is almost full",
        "MTI": "Maybe tomorrow it will be cold",
        "IWL": "I would like a new alarm clock",
        "ITH": "I think I have a doctor's appointment",
        "DFA": "Don't forget a jacket",
        "ITS": "I think I've seen this before",
        "TSI": "The surface is slick",
        "WSI": "We'll stop in a couple of minutes",
    },
    genders={
        str(actor): gender
        for actor, gender in enumerate(
            "MFFFMFFFFFMFFMMMMFMFFMMFFMMFFFMMMMMMFMMMMMFMMF"
            "FMFMMFFFFFMFMFFMFMMMMMMMMFFFFFMFFMMFMFMMMMFMF",
            start=1001,
        )
    },
)


# Burkhardt et al. (2005), Interspeech. A name is SPEAKER TEXT EMOTION VERSION,
# as in 03a01Fa; the letters are those of German words (Wut, Langeweile, ...).
EMODB = NamedCorpus(
    name="EmoDB",
    source="EmoDB is needed: the folder of 03a01Fa.wav and its like.\n"
    "It is at http://emodb.bilderbar.info/download/",
    language="de",
    pattern="(?P<speaker>\\d\\d)(?P<sentence>[ab]\\d\\d)(?P<emotion>[A-Z])[a-f]?",
    emotions=codes(
        "N neutral, F happy, T sad, W angry, A fearful, E disgust, L bored"
    ),
    sentences={
        "a01": "Der Lappen liegt auf dem Eisschrank.",
        "a02": "Das will sie am Mittwoch abgeben.",
        "a04": "Heute abend könnte ich es ihm sagen.",
        "a05": "Das schwarze Stück Papier befindet sich da oben neben dem "
        "Holzstück.",
        "a07": "In sieben Stunden wird es soweit sein.",
        "b01": "Was sind denn das für Tüten, die da unter dem Tisch stehen?",
        "b02": "Sie haben es gerade hochgetragen und jetzt gehen sie wieder "
        "runter.",
        "b03": "An den Wochenenden bin ich jetzt immer nach Hause gefahren "
        "und habe Agnes besucht.",
        "b09": "Ich will das eben wegbringen und dann mit Karl was trinken "
        "gehen.",
        "b10": "Die wird auf dem Platz sein, wo wir sie immer hinlegen.",
    },
    genders=sexes("08 09 13 14 16", "03 10 11 12 15"),
    counts=counts(
        "neutral 79, happy 71, sad 62, angry 127, fearful 69, disgust 46, "
        "bored 81",
        10,
    ),
)

# Pichora-Fuller and Dupuis (2020), doi 10.5683/SP2/E8H2MF. A name is
# SPEAKER_WORD_EMOTION, ps a pleasant surprise. One clip of OAF lacks her F.
TESS = NamedCorpus(
    name="TESS",
    source="TESS is needed: the folder of OAF_back_angry.wav and its like.\n"
    "It is at https://doi.org/10.5683/SP2/E8H2MF",
    language="en",
    pattern="(?P<speaker>[OY]A)F?_(?P<sentence>[a-z]+)_(?P<emotion>[a-z]+)",
    emotions=codes(
        "neutral neutral, happy happy, sad sad, angry angry, fear fearful, "
        "disgust disgust, ps surprised"
    ),
    speaker="{speaker}F",
    utt_id="{speaker}F_{sentence}_{emotion}",
    sentences="Say the word {sentence}",
    genders=sexes("OA YA", ""),
    folds=2,
    counts=counts("neutral happy sad angry fearful disgust surprised 400", 2),
)

# Christop (2024), LREC-COLING. A name is SPEAKER_EMOTION_SENTENCE.
NEMO = NamedCorpus(
    name="nEMO",
    source="nEMO is needed: the folder of EB0_anger_1.wav and its like.\n"
    "It is at https://github.com/amu-cai/nEMO",
    language="pl",
    pattern="(?P<speaker>[A-Z]{2}\\d)_(?P<emotion>[a-z]+)_(?P<sentence>\\d+)",
    emotions=codes(
        "neutral neutral, happiness happy, sadness sad, anger angry, "
        "fear fearful, surprised surprised"
    ),
    genders=sexes("EB0 IC0 KD0 MK0", "KS0 MP0 SM0 TP0 WR0"),
    folds=3,
    counts=counts(
        "neutral 809, happy angry 749, sad 769, fearful 736, surprised 669", 9
    ),
    table="data.tsv",
    words="raw_text",
)

# Retta et al. (2023), ACM TALLIP 22(1). A name is
# EMOTION-SENTENCE-REPETITION-GENDER-SPEAKER. One clip has a capital S. The
# gender of five is not that of their speaker, so it is taken from the speaker.
# A sentence is said with one emotion, hence folds by sentences. They share
# speakers, as EmoBox's do: with speakers apart, too, a fold would test 70 clips
# in place of 350.
ASED = NamedCorpus(
    name="ASED",
    source="ASED is needed: the folder of a5-01-01-01-01.wav and its like.\n"
    "It is at https://github.com/Ethio2021/ASED_V1",
    language="am",
    pattern="(?P<emotion>[nfhsaS])\\d-(?P<sentence>\\d\\d)-\\d\\d-\\d\\d"
    "-(?P<speaker>\\d\\d)",
    emotions=codes("n neutral, h happy, s sad, S sad, a angry, f fearful"),
    genders=sexes(
        "01 03 05 07 09 11 13 15 17 19 21 23 25 27 29 31 33 35 37 43 47 48 49 "
        "58 62",
        "02 04 06 08 10 12 14 16 18 20 22 24 26 28 30 32 34 36 38 39 40 41 42 "
        "44 45 46 50 51 52 53 54 55 56 57 59 60 61 63 64 65",
    ),
    sentence_folds=7,
    counts=counts("neutral 522, happy angry 486, sad 470, fearful 510", 65),
)

# Canpolat et al. (2020), SLTU-CCURL. A name is SPEAKER_EMOTION_WORD; words lack
# the letters that English has not, so they are no transcripts. Speaker 1157
# has two emotions only, so a fold has two speakers. Its licence is named twice,
# CC BY-NC-ND 4.0 and GPL-3.
TUREVDB = NamedCorpus(
    name="TurEV-DB",
    source="TurEV-DB is needed: the folder of 1157_hl_acik.wav and its like.\n"
    "It is at https://github.com/Xeonen/TurEV-DB",
    language="tr",
    pattern="(?P<speaker>\\d{4})_(?P<emotion>[a-z]{2})_(?P<sentence>\\w+)",
    emotions=codes("sk calm, mt happy, hl sad, kz angry"),
    folds=3,
    counts=counts("calm 408, happy 357, sad 483, angry 487", 6),
    folder="turev",
)

# Haq and Jackson (2010). A name is SPEAKER_EMOTION with a number, as in
# DC_sa01, or lies in a folder of the speaker, as in DC/sa01. The folds are
# EmoBox's.
SAVEE = NamedCorpus(
    name="SAVEE",
    source="SAVEE is needed: data_folder is the folder that holds DC/a01.wav "
    "or DC_a01.wav and its like.\nIt is at "
    "http://kahlan.eps.surrey.ac.uk/savee/",
    language="en",
    pattern="(?P<speaker>DC|JE|JK|KL)[_/](?P<emotion>[a-z]{1,2})"
    "(?P<sentence>\\d\\d)",
    emotions=codes(
        "n neutral, h happy, sa sad, a angry, f fearful, d disgust, "
        "su surprised"
    ),
    utt_id="{speaker}_{emotion}{sentence}",
    genders=sexes("", "DC JE JK KL"),
    folds={1: ("JE",), 2: ("KL",), 3: ("DC",), 4: ("JK",)},
    counts=counts(
        "neutral 120, happy sad angry fearful disgust surprised 60", 4
    ),
)

# Costantini et al. (2014), LREC. A name is EMOTION-SPEAKER-SENTENCE; the
# folds are EmoBox's.
EMOVO = NamedCorpus(
    name="EMOVO",
    source="EMOVO is needed: data_folder is the folder that holds "
    "f1/dis-f1-b1.wav and its like.",
    language="it",
    pattern="(?P<emotion>[a-z]{3})-(?P<speaker>[fm]\\d)-(?P<sentence>[a-z]\\d)",
    emotions=codes(
        "neu neutral, gio happy, tri sad, rab angry, pau fearful, "
        "dis disgust, sor surprised"
    ),
    genders=sexes("f1 f2 f3", "m1 m2 m3"),
    folds=dict(enumerate([(x,) for x in "f2 m3 m2 f3 f1 m1".split()], 1)),
    counts=counts("neutral happy sad angry fearful disgust surprised 84", 6),
)

# Latif et al. (2018), FIT. A name is SPEAKER_FILE_EMOTION with a number;
# speakers are SF... and SM..., 29 of them. Clips are from talk shows.
URDU = NamedCorpus(
    name="URDU",
    source="URDU is needed: the folder of SM20_F8_N012.wav and its like.\n"
    "It is at https://github.com/siddiquelatif/URDU-Dataset",
    language="ur",
    pattern="(?P<speaker>S(?P<gender>[FM])\\d+)_F\\d+_(?P<emotion>[A-Z])\\d+",
    emotions=codes("N neutral, H happy, S sad, A angry"),
    genders=sexes("F", "M"),
    counts=counts("neutral happy sad angry 100", 29),
)

# Zhou et al. (2022), Speech Communication 137. A clip is
# SPEAKER/EMOTION/SPEAKER_NUMBER, in some copies with a folder of its part
# before the name. Speakers up to 10 speak Chinese, the others English.
ESD = NamedCorpus(
    name="ESD",
    source="ESD is needed: data_folder is the folder that holds 0001 ... "
    "0020.\nIts makers send it on request: "
    "https://github.com/HLTSingapore/Emotional-Speech-Data",
    language={f"{n:04}": "zh" if n <= 10 else "en" for n in range(1, 21)},
    pattern="(?P<emotion>[A-Z][a-z]+)/(?:(?:train|evaluation|test)/)?"
    "(?P<speaker>\\d{4})_\\d{6}",
    emotions=codes(
        "Neutral neutral, Happy happy, Sad sad, Angry angry, Surprise surprised"
    ),
    counts=counts("neutral happy sad angry surprised 7000", 20),
)

# Every entry above.
CORPORA = {
    entry.name: entry
    for entry in list(vars().values())
    if isinstance(entry, NamedCorpus)
}
