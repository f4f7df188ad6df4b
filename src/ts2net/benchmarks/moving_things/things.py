"""Names of the benchmark's things, and the words before a name."""

# In the order of the pictures in `sheet.png`, which `bench/moving_things_sheet.py` makes.
THINGS = (
    *("cat", "dog", "frog", "pig", "tiger", "panda", "fox", "octopus", "crab", "turtle", "snail", "butterfly"),
    *("penguin", "whale", "chick", "koala", "lion", "elephant", "owl", "parrot", "flamingo", "bee", "ladybird"),
    *("fish", "squid", "cow", "rabbit", "peacock", "dinosaur", "zebra", "jellyfish", "swan"),
    *("banana", "apple", "strawberry", "pineapple", "watermelon", "carrot", "broccoli", "doughnut", "hamburger"),
    *("pizza", "bunch of grapes", "lemon", "peach", "avocado", "aubergine", "corn cob", "mushroom", "pretzel"),
    *("cupcake", "lollipop", "ice cream", "hot dog", "kiwi", "sunflower", "cactus", "tulip", "palm tree", "leaf"),
    *("car", "tractor", "sailboat", "rocket", "airplane", "bicycle", "bus", "fire engine", "helicopter", "taxi"),
    *("parachute", "steam engine", "balloon", "guitar", "bell", "key", "umbrella", "football", "basketball"),
    *("trophy", "drum", "crown", "shirt", "dress", "candle", "light bulb", "book", "present", "teddy bear", "kite"),
    *("anchor", "hammer", "magnet", "clock", "teapot", "backpack"),
)

ROUND = frozenset({"football", "basketball", "doughnut", "kiwi", "lollipop"})
"""Things whose rotation is not visible."""

EMOJI = {
    **{name: f"{name} face" for name in ("cat", "dog", "frog", "pig", "tiger", "panda", "fox", "lion", "cow")},
    **{name: f"{name} face" for name in ("rabbit", "zebra")},
    "whale": "spouting whale",
    "chick": "baby chick",
    "bee": "honeybee",
    "ladybird": "lady beetle",
    "fish": "tropical fish",
    "dinosaur": "t-rex",
    "apple": "red apple",
    "pizza": "slice of pizza",
    "bunch of grapes": "grapes",
    "corn cob": "ear of maize",
    "ice cream": "soft ice cream",
    "kiwi": "kiwifruit",
    "leaf": "maple leaf",
    "car": "automobile",
    "steam engine": "steam locomotive",
    "umbrella": "umbrella with rain drops",
    "football": "soccer ball",
    "basketball": "basketball and hoop",
    "drum": "drum with drumsticks",
    "shirt": "t-shirt",
    "light bulb": "electric light bulb",
    "book": "closed book",
    "present": "wrapped present",
    "clock": "alarm clock",
    "backpack": "school satchel",
}
"""Name of a thing's emoji, if it differs from the name of the thing."""


def phrase(thing: str, adjective: str = "") -> str:
    """Return a thing with its article: "a cat", "an owl", "a small owl"."""
    words = f"{adjective} {thing}" if adjective else thing
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"
