"""Slot lists for rules that vary what an instruction is about: specifics and countable things per topic, templates, narrower nouns."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Topic:
    """A domain of instructions.

    `specifics` are noun phrases that a general request can be narrowed to; `items` can be counted in `unit`.
    """

    specifics: tuple[str, ...]
    unit: str
    items: tuple[str, ...]


TOPICS: dict[str, Topic] = {
    "cooking": Topic(
        ("lentil soup", "flat bread", "apple pie", "fried rice", "potato salad", "lemon cake"),
        "grams of sugar",
        ("jam", "cocoa", "granola", "ketchup", "custard", "lemonade"),
    ),
    "health": Topic(
        ("back pain", "deep breathing", "a sore throat", "tired eyes", "a short nap", "cold feet"),
        "minutes a week",
        ("stretching", "cycling", "rowing", "yoga", "skipping", "dancing"),
    ),
    "travel": Topic(
        ("a night train", "a mountain hut", "a ferry crossing", "a desert road", "a canal boat", "a city tram"),
        "hours on the road",
        ("Lisbon", "Oslo", "Prague", "Naples", "Dublin", "Vienna"),
    ),
    "money": Topic(
        ("a savings jar", "a phone contract", "a flea market", "a used bicycle", "a bus pass", "a school trip"),
        "euros",
        ("rent", "insurance", "internet", "petrol", "clothing", "cinema"),
    ),
    "home": Topic(
        ("a squeaking door", "a narrow hallway", "a leaking tap", "a dark cellar", "a folding table", "a dusty shelf"),
        "years of use",
        ("kettle", "sofa", "mattress", "toaster", "curtain", "ladder"),
    ),
    "garden": Topic(
        ("a herb bed", "a plum tree", "a rain barrel", "a strawberry patch", "a stone path", "a bean pole"),
        "centimetres in height",
        ("thyme", "sunflower", "pea", "lavender", "pumpkin", "fennel"),
    ),
    "animals": Topic(
        ("a barn owl", "a river otter", "a garden spider", "a shepherd dog", "a honey bee", "a mountain goat"),
        "kilograms",
        ("badger", "heron", "lynx", "turtle", "goose", "ferret"),
    ),
    "weather": Topic(
        ("a snow storm", "a dry summer", "a spring flood", "a foggy harbour", "a hail shower", "a polar night"),
        "millimetres of rain",
        ("January", "March", "June", "August", "October", "December"),
    ),
    "history": Topic(
        ("a water mill", "a Viking ship", "a silk road", "an old town wall", "a steam engine", "a royal kitchen"),
        "visitors a day",
        ("castle", "abbey", "lighthouse", "shipyard", "mint", "palace"),
    ),
    "science": Topic(
        ("a falling feather", "a magnet", "a solar eclipse", "a salt crystal", "a pond sample", "a paper plane"),
        "degrees",
        ("iron", "copper", "glass", "wax", "marble", "cork"),
    ),
    "technology": Topic(
        ("a lost phone", "a slow printer", "a video call", "a smart watch", "a weak battery", "a public network"),
        "megabytes",
        ("camera", "browser", "calendar", "podcast", "map", "dictionary"),
    ),
    "music": Topic(
        ("a street band", "a broken string", "a lullaby", "a film score", "a school choir", "a jazz solo"),
        "minutes in length",
        ("overture", "ballad", "waltz", "anthem", "sonata", "march"),
    ),
    "sport": Topic(
        ("a relay race", "a penalty kick", "a long jump", "a rowing crew", "a chess clock", "a bicycle race"),
        "points",
        ("Falcons", "Rovers", "Sharks", "Comets", "Wolves", "Pirates"),
    ),
    "school": Topic(
        ("a spelling test", "a class trip", "a science project", "a group talk", "a school play", "a book report"),
        "pupils",
        ("algebra", "drama", "biology", "pottery", "Latin", "woodwork"),
    ),
    "work": Topic(
        ("a job interview", "a night shift", "a team lunch", "a sales call", "a shared desk", "a farewell card"),
        "hours",
        ("filing", "invoicing", "training", "planning", "travelling", "cleaning"),
    ),
    "family": Topic(
        ("a bedtime story", "a family recipe", "a board game", "a long car ride", "a lost teddy", "a picnic basket"),
        "years of age",
        ("Rosa", "Emil", "Greta", "Hugo", "Nora", "Oskar"),
    ),
}

TEMPLATES = (
    "Write a few sentences about {topic} for a local newsletter.",
    "Describe {topic} to a person who has never come across it.",
    "Give a newcomer some honest tips about {topic}.",
    "Invent a tiny tale in which {topic} plays the main part.",
    "Name things worth knowing about {topic}.",
    "Say what people enjoy and what they dislike about {topic}.",
    "Write a cheerful message to a cousin about {topic}.",
    "Ask an expert about {topic} as a reporter would.",
    "Put {topic} side by side with {other} and say how they differ.",
    "Suggest an opening paragraph for an article about {topic}.",
)
"""Requests with slots for specifics; wordings differ from every seed's, so that none can repeat an evaluation item."""

NARROWER: dict[str, tuple[str, ...]] = {
    "vegetables": ("carrots", "leeks", "green beans"),
    "soup": ("onion soup", "pumpkin soup"),
    "cake": ("carrot cake", "almond cake"),
    "bread": ("rye bread", "raisin bread"),
    "kitchen": ("hotel kitchen", "camping kitchen"),
    "student": ("nursing student", "drama student"),
    "friend": ("school friend", "pen friend"),
    "dog": ("sheepdog", "terrier"),
    "animals": ("bears", "squirrels"),
    "garden": ("roof garden", "rose garden"),
    "plant": ("fern", "lemon tree"),
    "museum": ("railway museum", "toy museum"),
    "mountains": ("Alps", "Andes"),
    "island": ("Greek island", "volcanic island"),
    "town": ("harbour town", "mining town"),
    "train": ("express train", "freight train"),
    "computer": ("school computer", "office computer"),
    "laptop": ("work laptop", "school laptop"),
    "instruments": ("wind instruments", "string instruments"),
    "guitar": ("bass guitar", "steel guitar"),
    "choir": ("village choir", "office choir"),
    "football": ("indoor football", "beach football"),
    "team": ("hockey team", "rowing team"),
    "exam": ("driving exam", "chemistry exam"),
    "book": ("comic book", "cookery book"),
    "meeting": ("budget meeting", "staff meeting"),
    "colleague": ("new colleague", "senior colleague"),
    "shop": ("shoe shop", "flower shop"),
    "child": ("toddler", "schoolchild"),
    "children": ("toddlers", "twins"),
    "party": ("garden party", "costume party"),
    "storm": ("hail storm", "sand storm"),
    "castle": ("hill castle", "water castle"),
    "house": ("farm house", "tree house"),
    "office": ("law office", "post office"),
    "walk": ("beach walk", "forest walk"),
}
"""General nouns and narrower ones that fit the same sentence."""
