"""Our own word tables: words that mean the same wherever they commonly stand, and British with American spellings."""

from __future__ import annotations

_SYNONYM_LINES = """
begin>start begins>starts beginning>starting began>started commence>begin commenced>began
bought=purchased buying=purchasing buy>purchase
large=big larger=bigger largest=biggest enormous=huge gigantic>huge tiny>very_small entire>whole
quickly=rapidly rapid>quick quick>fast slowly>at_a_slow_pace
car>automobile cars>automobiles automobile>car automobiles>cars bicycle=bike bicycles=bikes airplane>plane airplanes>planes
sofa=couch sofas=couches refrigerator=fridge refrigerators=fridges telephone=phone telephones=phones television>TV gasoline=petrol
doctor>physician doctors>physicians physician>doctor physicians>doctors lawyer>attorney lawyers>attorneys teacher>instructor
teachers>instructors infant>baby infants>babies child>kid children>kids kid>child kids>children
mother=mom father=dad mothers=moms fathers=dads grandmother=grandma grandfather=grandpa person>individual animal>creature animals>creatures
assist>help assists>helps assisted>helped assisting>helping assistance>help
attempts>tries attempted>tried attempting>trying
allow>permit allows>permits allowed=permitted allowing=permitting
choose>pick/select chooses>picks/selects choosing>picking/selecting chose>picked/selected chosen>picked/selected selecting>choosing
obtain>get obtains>gets obtained>got obtaining>getting received>got
require>need requires>needs required>needed requiring>needing
constructed=built constructing>building
discover>find discovers>finds discovered>found discovering>finding
depart>leave departs>leaves departed>left stay=remain stayed=remained staying>remaining
respond=reply responds>replies responded=replied responding=replying inquire>ask inquired>asked
repair>fix repairs>fixes repaired>fixed repairing>fixing
shout=yell shouts=yells shouted=yelled shouting=yelling weeping>crying wept>cried
reside>live resides>lives resided>lived speak>talk speaking>talking talked>spoke
vanish=disappear vanishes=disappears vanished=disappeared vanishing=disappearing
occur>happen occurs>happens occurred>happened occurring>happening
demonstrate>show demonstrates>shows demonstrated>showed depict>portray depicts>portrays
utilize>use utilizes>uses utilized>used utilizing>using throw>toss throws>tosses threw>tossed thrown>tossed throwing>tossing
annoyed>irritated afraid>scared scared=frightened happier>more_cheerful sad=unhappy glad>pleased wealthy>rich wealthier>richer
intelligent>smart clever>smart tired>weary sleepy=drowsy sick>ill difficult>hard brave=courageous polite=courteous rude=impolite
honest=truthful weird>strange strange>peculiar peculiar>strange beautiful>lovely wonderful>marvellous terrible=awful lucky=fortunate
famous>well-known dangerous=hazardous damp=moist filthy>very_dirty crucial>vital
silently=quietly suddenly>abruptly finally>at_last eventually>in_the_end immediately>at_once instantly>at_once currently>at_present
fortunately>luckily unfortunately>sadly certainly>surely completely=entirely totally>completely nearly=almost roughly=approximately
often=frequently rarely=seldom usually=typically perhaps=maybe numerous>many
however>nevertheless therefore>thus thus>therefore furthermore>moreover additionally>moreover although>though
someone=somebody anyone=anybody everyone=everybody nobody>no_one toward=towards among=amongst upon>on
forest>woods forests>woods ocean>sea oceans>seas garbage=trash rubbish>garbage clothes>clothing residence>home dwelling>house
movie>film movies>films photograph=photo photographs=photos gift>present gifts>presents journey>trip journeys>trips
vacation>holiday vacations>holidays illness=sickness illnesses=sicknesses mistakes>errors goal>aim goals>aims
"""
"""a>b/c: b or c may stand for a; a=b: each for the other; "_" is a space. Only such words are on the left as have no other common sense
that the words on the right lack."""

_SPELLING_PAIRS = """
colour/color colours/colors coloured/colored colourful/colorful favourite/favorite favourites/favorites favour/favor favours/favors
flavour/flavor flavours/flavors harbour/harbor harbours/harbors honour/honor honours/honors humour/humor labour/labor
neighbour/neighbor neighbours/neighbors neighbourhood/neighborhood rumour/rumor rumours/rumors behaviour/behavior behaviours/behaviors
odour/odor odours/odors vapour/vapor armour/armor parlour/parlor savour/savor tumour/tumor tumours/tumors vigour/vigor
centre/center centres/centers fibre/fiber fibres/fibers litre/liter litres/liters metre/meter metres/meters theatre/theater
theatres/theaters kilometre/kilometer kilometres/kilometers centimetre/centimeter centimetres/centimeters
organise/organize organised/organized organises/organizes organising/organizing organisation/organization organisations/organizations
recognise/recognize recognised/recognized recognises/recognizes recognising/recognizing realise/realize realised/realized
realises/realizes realising/realizing apologise/apologize apologised/apologized emphasise/emphasize emphasised/emphasized
memorise/memorize memorised/memorized minimise/minimize minimised/minimized maximise/maximize maximised/maximized
specialise/specialize specialised/specialized summarise/summarize summarised/summarized utilise/utilize utilised/utilized
criticise/criticize criticised/criticized fertilise/fertilize fertiliser/fertilizer fertilisers/fertilizers
analyse/analyze analysed/analyzed analysing/analyzing paralyse/paralyze paralysed/paralyzed
travelled/traveled travelling/traveling traveller/traveler travellers/travelers cancelled/canceled cancelling/canceling
labelled/labeled labelling/labeling modelled/modeled modelling/modeling signalled/signaled fuelled/fueled jewellery/jewelry
defence/defense offence/offense pretence/pretense grey/gray greyish/grayish plough/plow ploughs/plows ploughed/plowed
aeroplane/airplane aeroplanes/airplanes aluminium/aluminum mould/mold moulds/molds mouldy/moldy moustache/mustache pyjamas/pajamas
sceptical/skeptical sceptic/skeptic skilful/skillful wilful/willful fulfil/fulfill fulfils/fulfills enrol/enroll enrols/enrolls
tyre/tire tyres/tires kerb/curb cheque/check cheques/checks catalogue/catalog catalogues/catalogs
programme/program programmes/programs judgement/judgment encyclopaedia/encyclopedia paediatric/pediatric anaemia/anemia
oestrogen/estrogen foetus/fetus manoeuvre/maneuver diarrhoea/diarrhea haemoglobin/hemoglobin oesophagus/esophagus
learnt/learned burnt/burned dreamt/dreamed spelt/spelled spoilt/spoiled whilst/while storey/story storeys/stories
"""
_AMERICAN_WITH_OTHER_SENSES = {
    "tire", "tires", "curb", "check", "checks", "program", "programs", "story", "stories", "while", "learned", "burned"
}  # fmt: skip


def _synonyms() -> dict[str, tuple[str, ...]]:
    table: dict[str, tuple[str, ...]] = {}
    for entry in _SYNONYM_LINES.split():
        left, sign, right = entry.partition("=" if "=" in entry else ">")
        pairs = [(left, right)] if sign == ">" else [(left, right), (right, left)]
        for word, ways in pairs:
            assert word not in table, word
            table[word] = tuple(way.replace("_", " ") for way in ways.split("/"))
    return table


def _spellings() -> dict[str, str]:
    table: dict[str, str] = {}
    for pair in _SPELLING_PAIRS.split():
        british, american = pair.split("/")
        table[british] = american
        if american not in _AMERICAN_WITH_OTHER_SENSES:
            table[american] = british
    return table


SYNONYMS: dict[str, tuple[str, ...]] = _synonyms()
"""Each word's synonyms, none of them the word itself."""
SPELLINGS: dict[str, str] = _spellings()
