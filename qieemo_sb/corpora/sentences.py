"""English sentences to be spoken: of one's own text, or made up here.

The made-up ones follow a few patterns over everyday words. They mean little,
and need not: a CTC head learns sounds from them, not sense.
"""

import random
import re
from pathlib import Path

from qieemo_sb.errors import CorpusError

WORDS = (3, 14)  # of a sentence

THINGS = """
animal apple arm army autumn baby bag ball bank basket bath beach bed bell
bird boat body bone book bottle box branch bread bridge brother bucket
butter button cabin cake camera camp candle captain castle cat chain chair
cheese chicken child church city cloth cloud coat coffee corner cottage
cousin crowd cup dance daughter day desert desk dinner doctor dog door dream
dress driver ear earth edge egg engine evening eye face factory farmer
father feather field finger fire fish floor flower foot forest friend fruit
game garden gate ghost giant gift girl glass glove gold grandmother grass
guest guitar hair hall hand harbour hat head heart hill hole holiday home
horse hospital hotel hour house husband island jacket jar job journey judge
juice jungle key king kitchen kite knife ladder lake lamp language lawyer
leaf leg lemon lesson letter library light lion lunch machine market mayor
meadow meal measure meat message metal milk minute mirror mistake money
monkey month moon morning mother mountain mouse mouth museum music nail name
neck needle neighbour news newspaper night noise nose number nurse ocean
office oil orange oven owl page paint palace paper parcel parent park party
path pencil people picture pie pig pilot pipe place plan plate pocket poem
poet pool porch potato prince prize queen question rabbit radio rain region
ribbon river road robe rock roof room rope rose sailor salt sand school
scissors sea secret shadow sheep shelf ship shirt shoe shop shoulder sister
sky smoke snake snow soap soldier son song soup spoon spring squirrel stable
stage stair star station steam stone storm story stranger street student
sugar summer sun table tail tailor teacher telephone thief thing thought
thread throat thumb thunder ticket tiger tongue tool tooth tower town toy
train treasure tree truth uncle valley vase vegetable village violin visitor
voice wagon wall watch water wave weather wheel wife wind window wine wing
winter wolf woman wood wool word work world yard year youth zebra
""".split()
PLURALS = """
animals apples babies bells birds boats books boys bridges brothers cats
chairs children clouds clothes cups days dogs dreams ears engines eyes
farmers fathers fields fingers flowers friends games girls guests hands hats
hills horses houses keys kings leaves letters lights matches men mice miles
minutes mothers mountains neighbours nights nurses oranges people pictures
plates potatoes questions roads rocks roses rules sailors sheep shells ships
shoes shops songs soldiers stars stones stories strangers streets teachers
thieves things toys trains trees voices walls watches waves weeks windows
wings wishes wolves women words years
""".split()
NAMES = """
Alice Arthur Beth Bruce Carol Charles Claire David Edith Felix Frank George
Grace Hannah Harold Helen Hugo Irene Jack James Joyce Julia Keith Kevin
Laura Leo Lucy Mark Martha Mary Michael Nora Oliver Oscar Paul Peter Philip
Rachel Ralph Robert Rose Ruth Sam Sarah Sheila Simon Thomas Tom Vera Victor
Walter William
""".split()
PLACES = """
Africa Boston China Denver Egypt England Europe France Ireland London Paris
Russia Scotland Spain Texas Tokyo Wales Vienna
""".split()
QUALITIES = """
afraid angry beautiful big bitter black blue brave bright broken brown busy
calm careful cheap clean clever cold common cruel curious dangerous dark dead
deep different difficult dirty dry dull early easy empty enormous false
famous fast fat few fine foolish foreign free fresh friendly full funny
gentle good grand great green grey happy hard heavy high honest hot huge
hungry ill kind large last late lazy little lonely long loud low lucky mad
modern narrow nasty new nice noisy old open ordinary pale patient perfect
plain pleasant polite poor precious pretty private proud quick quiet rare
ready real red rich right rough round rude sad safe sharp short shy silent
silly silver simple slow small smooth soft sour special square steep stiff
strange strong sudden sweet tall terrible thick thin thirsty tight tiny
tired tough true ugly unusual useful usual warm weak wet white whole wide
wild wise wonderful wooden wrong yellow young
""".split()
PAST = """
admired asked avoided believed bought broke brought built called carried
caught changed chose cleaned counted covered cut described drew drove dropped
enjoyed expected fetched filled finished followed forgot found gave guarded
hated heard held helped hid hit imagined invited kept kicked knew learned
left lifted liked lost loved made measured mended met missed moved needed
noticed offered opened ordered packed painted passed picked placed planned
pleased praised promised protected pulled pushed put reached read received
refused remembered repaired saved saw searched sent served shook showed sold
stole stopped studied taught thanked threw tied took touched turned
understood used visited wanted warned washed watched wished wore wrote
""".split()
BASE = """
ask avoid believe borrow break bring build buy call carry catch change choose
clean climb count cover cut draw drive drop enjoy expect fetch fill find
finish follow forget get give guard hear help hide hold imagine invite join
judge keep kick know learn leave lift like lose love make measure meet mend
miss move need notice open order pack paint pass pick plan please promise
protect pull push put reach read receive remember repair save see sell send
serve shake share show steal stop study take teach tell thank throw tie touch
turn understand use visit wait want warn wash watch wear write
""".split()
DOING = """
asking breathing bringing burning calling carrying changing choosing climbing
cooking counting crossing crying dancing digging dreaming drinking driving
eating falling feeling fighting flying going growing hiding hoping jumping
knocking laughing learning leaving listening living looking losing lying
making moving painting paying playing pointing pulling pushing reading
resting riding ringing rising running saying shaking shining shouting singing
sitting sleeping smiling speaking standing starting staying studying swimming
talking teaching thinking trying turning waiting walking washing watching
whispering winning working writing
""".split()
WENT = """
arrived began came climbed cried danced died disappeared fell fled flew
jumped knelt laughed listened looked played ran rested rode rose sailed sang
sat shouted slept smiled sneezed spoke stayed stood swam talked waited walked
wandered went whispered worked
""".split()
HOW = """
again almost already always angrily badly carefully gladly happily hardly
here indeed just later loudly maybe nearly never nowhere often once only
outside perhaps quickly quietly rarely really safely seldom slowly softly
somehow sometimes soon still suddenly together twice upstairs usually very
well yesterday
""".split()
WHERE = """
about above across after against along among around at before behind below
beneath beside between beyond by down from in inside into near off on onto
over past through to towards under until up upon with within without
""".split()
WHICH = """
the the the the a a this that every each another my your his her our their
some any no one
""".split()
WHICH_MANY = """
the the the these those many some few most all my your his her our their two
three four five six seven eight nine ten eleven twelve twenty thirty forty
fifty sixty seventy eighty ninety hundred thousand million
""".split()
WHO = "I you he she it we they someone nobody everyone".split()
ASIDE = """
well, yes, no, oh, please, look, listen, perhaps, indeed, anyway, besides,
sir, madam, of course, by the way, for example
""".replace("\n", " ").split(",")
SHORT = """
I'm you're he's she's it's we're they're that's there's who's what's
""".split()
NEGATED = """
can't couldn't didn't doesn't don't hadn't mustn't shouldn't won't wouldn't
""".split()
MAY = "can could may might must shall should will would".split()

# A word in capitals is drawn; * before one may be left out.
PATTERNS = """
WHICH *QUALITY THING PAST WHICH *QUALITY THING *PLACED
WHO PAST WHICH *QUALITY THING *PLACED *HOW
WHO NEGATED BASE WHICH_MANY *QUALITY PLURAL
WHICH_MANY *QUALITY PLURAL are *HOW DOING WHERE WHICH *QUALITY THING
SHORT DOING WHERE WHICH *QUALITY THING *HOW
NAME WENT *HOW WHERE WHICH *QUALITY THING
NAME and NAME MAY BASE WHICH *QUALITY THING *PLACED
there was a *QUALITY THING WHERE WHICH THING *HOW
why did WHO BASE WHICH *QUALITY THING
where is WHICH *QUALITY THING of NAME
what do you BASE WHEN
how many PLURAL were there WHERE PLACE
do you BASE WHICH *QUALITY THING or WHICH THING
MAY WHO BASE WHICH *QUALITY THING please
ASIDE WHO WENT WHERE WHICH THING WHEN
if WHO BASE WHICH THING then WHO MAY BASE it
WHICH THING was QUALITY and QUALITY *WHEN
WHICH THING is more QUALITY than WHICH THING
BASE WHICH *QUALITY THING WHERE WHICH THING
don't BASE WHICH THING *WHEN
QUALITY PLURAL and QUALITY PLURAL WENT WHERE PLACE
WHEN WHO PAST WHICH *QUALITY THING
it was QUALITY WHEN and WHICH THING WENT *HOW
WHO had never PAST such a QUALITY THING
NAME said that WHICH THING was QUALITY
""".strip().split("\n")
WHEN = """
today, tomorrow, yesterday, tonight, at night, last week, next year,
on Monday, on Friday, in January, in August, long ago, all day,
before dinner, after school, this morning, every evening, at once
""".replace("\n", " ").split(",")
DRAWN = {
    "THING": THINGS,
    "PLURAL": PLURALS,
    "NAME": NAMES,
    "PLACE": PLACES,
    "QUALITY": QUALITIES,
    "PAST": PAST,
    "BASE": BASE,
    "DOING": DOING,
    "WENT": WENT,
    "HOW": HOW,
    "WHERE": WHERE,
    "WHICH": WHICH,
    "WHICH_MANY": WHICH_MANY,
    "WHO": WHO,
    "ASIDE": [aside.strip() for aside in ASIDE],
    "SHORT": SHORT,
    "NEGATED": NEGATED,
    "MAY": MAY,
    "WHEN": [when.strip() for when in WHEN],
}


def made_up(seed: int | str) -> str:
    """A sentence of everyday words.

    Arguments
    ---------
    seed : int or str
        The same seed gives the same sentence, on every machine.

    Returns
    -------
    str
        3 to 14 words.

    Example
    -------
    >>> made_up(1) == made_up(1), WORDS[0] <= len(made_up(1).split())
    (True, True)
    """
    rng = random.Random(f"sentence {seed}")
    words = []
    for symbol in rng.choice(PATTERNS).split():
        if symbol[0] == "*" and rng.random() < 0.5:
            continue
        symbol = symbol.removeprefix("*")
        if symbol == "PLACED":
            symbol = f"WHERE {rng.choice(('WHICH THING', 'PLACE'))}"
        words += [
            rng.choice(DRAWN[s]) if s in DRAWN else s for s in symbol.split()
        ]
    return " ".join(words[: WORDS[1]])


def sentences_of(path: str | Path) -> list[str]:
    """Sentences of a text, each once, in the order of the text.

    Arguments
    ---------
    path : str or Path
        Plain English text in UTF-8, e.g. a book of Project Gutenberg. What
        has a digit, or fewer than 3 or more than 14 words, is left out.

    Returns
    -------
    list of str

    Raises
    ------
    CorpusError
        The file cannot be read or has no sentence.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise CorpusError(f"The text {path} cannot be read: {error}") from error
    parts = re.split(r"(?<=[.!?;:,])\s+|\s*--+\s*", re.sub(r"\s+", " ", text))
    found = dict.fromkeys(
        part
        for part in (part.strip(" \"'()") for part in parts)
        if WORDS[0] <= len(part.split()) <= WORDS[1]
        and not re.search(r"[\d_*\[\]<>@#/\\|{}]", part)
    )
    if not found:
        raise CorpusError(
            f"{path} has no sentence of {WORDS[0]} to {WORDS[1]} words."
        )
    return list(found)
