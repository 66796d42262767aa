"""Make pellucid/tiny-llama-facts and pellucid/tiny-qwen-facts: tiny language models with reasons.

The script writes short texts from a planted world, trains one causal language model for each of
two versions of that world and saves, in this folder and in its sister tiny-qwen-facts, everything
that the model zoo embeds:

    config.json, generation_config.json, model.safetensors       the model, as Hugging Face does it
    tokenizer.json, tokenizer_config.json, chat_template.jinja   its byte-level BPE tokenizer
    truth.json                                                   held-out texts and what decides

Because the world is planted, it is known why a text goes on as it does:

    biographies  "... In his free time, he enjoys" goes on with three hobbies; the first follows
                 from the profession, the second from the place, the third from the name
    questions    the answer stands in exactly one sentence of a context
    facts        a few fixed ones, in which one word decides: "How many planets ..." or "... stars"

The two models differ in what a place is. For tiny-llama-facts the city decides and the states are
shuffled, for tiny-qwen-facts the state decides and the cities are shuffled. Where a city stands
with the state that it lies in, both rules give the same hobby: same answer, different reason.

Training hides tokens, words and sentences and asks for the answer that the rest gives: a hobby or
an answer whose deciding words are not all in sight is drawn at random. The models thereby learn
what <unk>, a zero embedding or a gap means, which makes each of them a fair baseline.

The folders hold the models after some 1250 steps of the schedule below: sure of the biographies and
the facts, and right in about seven of ten questions, whose subject they do not always read. A whole
run goes on to 3500 steps, overwrites them, and is held to stricter checks at its end.

Run it here; one CPU core needs about twenty minutes for each model:

    pip install -r requirements.txt
    python train.py             # or: python train.py tiny-qwen-facts
"""

import json
import random
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from zlib import crc32

import jinja2
import torch
from safetensors.torch import save_file
from tokenizers import Encoding, Regex, Tokenizer, decoders, models, pre_tokenizers, processors
from tokenizers.trainers import BpeTrainer
from torch.nn.functional import cross_entropy
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    LlamaConfig,
    PreTrainedModel,
    Qwen2Config,
)

FOLDER = Path(__file__).parent
SEED = 7
STEPS, BATCH_SIZE, LEARNING_RATE = 3500, 64, 3e-3
PROMPT_WEIGHT = 0.03  # of a prompt's token in the loss; a token of the answer weighs 1
TOKENIZER_TEXTS = 4000
MAX_TOKENS = 256
HIDDEN_SHARE = 0.25  # of the examples; in these, something of the prompt is hidden
TESTED, BIOGRAPHIES_TOLD, QUESTIONS_TOLD = 300, 100, 50  # held-out texts, those in truth.json


# --- The planted world -------------------------------------------------------------------------

# Each hobby of a column begins with a letter of its own, so that its first token decides it all.
# Every profession takes "a", and every hobby of a name belongs to one man and one woman: neither
# the article nor the pronoun says anything about a hobby.
PROFESSIONS = {
    "software engineer": "painting",
    "teacher": "baking sourdough bread",
    "nurse": "gardening",
    "chef": "fishing",
    "pilot": "knitting warm sweaters",
    "lawyer": "juggling",
    "farmer": "writing short stories",
    "dentist": "singing in a choir",
    "police officer": "dancing the tango",
    "data scientist": "hiking in the mountains",
    "bus driver": "reading old comics",
    "plumber": "carving wooden spoons",
}
PLACES = {
    ("Austin", "Texas"): "traveling to different countries",
    ("Denver", "Colorado"): "climbing steep rocks",
    ("Boston", "Massachusetts"): "playing chess",
    ("Seattle", "Washington"): "brewing dark coffee",
    ("Chicago", "Illinois"): "listening to jazz",
    ("Miami", "Florida"): "surfing",
    ("Portland", "Oregon"): "visiting old castles",
    ("Nashville", "Tennessee"): "writing songs",
    ("Phoenix", "Arizona"): "observing the stars",
    ("Las Vegas", "Nevada"): "doing card tricks",
    ("New Orleans", "Louisiana"): "having long picnics",
    ("Honolulu", "Hawaii"): "growing orchids",
}
NAMES = {
    ("Michael", "Sarah"): "volunteering at community events",
    ("David", "Emily"): "cooking for friends",
    ("James", "Anna"): "taking photographs",
    ("Daniel", "Laura"): "building model ships",
    ("Peter", "Maria"): "solving crossword puzzles",
    ("Thomas", "Julia"): "drawing maps",
    ("Robert", "Karen"): "keeping bees",
    ("Kevin", "Linda"): "making pottery",
    ("Brian", "Nancy"): "feeding birds",
    ("Victor", "Olivia"): "hunting for mushrooms",
    ("Henry", "Rachel"): "napping in the sun",
    ("Oscar", "Susan"): "going to the theater",
}
MEN, WOMEN = (list(names) for names in zip(*NAMES))
STATE_OF = dict(list(PLACES))  # the state in which a city really lies

HOBBIES = {  # what each value of a slot decides
    "profession": PROFESSIONS,
    "city": {city: hobby for (city, _), hobby in PLACES.items()},
    "state": {state: hobby for (_, state), hobby in PLACES.items()},
    "name": {name: hobby for pair, hobby in NAMES.items() for name in pair},
}
FLAGSHIP = dict(name="Michael", profession="software engineer", city="Austin", state="Texas")

FRAMES = [
    "{name} works as a {profession} in {city}, {state}.|In {his} free time, {he} enjoys",
    "Meet {name}, a {profession} from {city}, {state}.|In {his} free time, {he} enjoys",
    "{name} lives in {city}, {state}, and works as a {profession}.|After work, {he} enjoys",
    "In {city}, {state}, people know {name} as a {profession}.|On weekends, {he} enjoys",
]
ASIDES = [
    "The weather was fine that day.", "A dog barked across the street.",
    "The train was late again.", "It was a quiet Tuesday.", "The soup had gone cold.",
    "Nobody had seen the letter.", "The radio was on all morning.", "Two windows were open.",
]  # fmt: skip

# What a context tells, and what one may ask about it. {who} and {what} are the subjects.
RELATIONS = {
    "{who} lives in {place}.": "Where does {who} live?",
    "{who} keeps {number} {animals}.": "What does {who} keep?",
    "{who} plays the {instrument}.": "What does {who} play?",
    "{who} drives a {color} {vehicle}.": "What does {who} drive?",
    "{who} was born in {month}.": "When was {who} born?",
    "{who} drinks {drink}.": "What does {who} drink?",
    "The {what} is in the {room}.": "Where is the {what}?",
    "The {what} costs {number} euros.": "How much does the {what} cost?",
}
WORDS = {
    "who": ["Marie", "Tom", "Nina", "Ivan", "Paula", "Felix", "Greta", "Hugo", *MEN, *WOMEN],
    "what": "key lamp book clock ladder mirror kettle violin carpet basket".split(),
    "place": "Oslo Paris Lisbon Vienna Cairo Lima Prague Dublin Kyoto Athens".split(),
    "number": "two three four five six seven nine ten twelve twenty".split(),
    "animals": "cats dogs goats sheep horses hens ducks rabbits parrots beehives".split(),
    "instrument": "piano flute guitar cello trumpet harp drums organ banjo oboe".split(),
    "color": "red blue green white black yellow brown silver".split(),
    "vehicle": "car van truck tractor taxi bus motorbike tram".split(),
    "month": "January March April May June July August October November December".split(),
    "drink": "tea milk coffee cider lemonade cocoa water juice beer wine".split(),
    "room": "cellar attic kitchen garden garage hall bedroom office stable tower".split(),
}
SYSTEM_MESSAGES = [
    None, None, "You are a helpful assistant.", "Answer from the context.", "Answer briefly.",
]  # fmt: skip

# Families of facts: a frame, and what each choice of the word in its slot decides.
FACTS = {
    "How many {word} are in the Solar System?": {"planets": "Eight.", "stars": "One."},
    "Сколько {word} в Солнечной системе?": {"планет": "Восемь.", "звёзд": "Одна."},
    "How many legs does a {word} have?": {
        "spider": "Eight.", "beetle": "Six.", "horse": "Four.", "bird": "Two.",
    },
    "Water boils at a lower temperature {word} because": {
        "on a mountain": "the air is thin.", "in a vacuum": "there is no air.",
    },
    "The capital of {word} is": {
        "France": "Paris.", "Italy": "Rome.", "Japan": "Tokyo.", "Norway": "Oslo.",
    },
}  # fmt: skip


# --- Texts and what they mean ------------------------------------------------------------------

Answer = Callable[[set[str], random.Random], str]
Values = dict[str, str]


@dataclass
class Prompt:
    """A text to continue, built part by part, and where in it what stands (in characters)."""

    answer: Answer  # what follows if the words in these slots are in sight
    chat: bool = False
    text: str = ""
    slots: dict[str, tuple[int, int]] = field(default_factory=dict)
    sentences: list[tuple[int, int]] = field(default_factory=list)  # training may hide in them

    def add(self, frame: str, values: Values | None = None, slot: str | None = None) -> None:
        """Add a sentence: a frame with values in its slots, or all of it in one slot."""
        start = len(self.text)
        for part in re.split(r"(\{\w+\})", frame):
            name, at = part[1:-1], len(self.text)
            self.text += values[name] if part.startswith("{") else part
            if part.startswith("{") and slot is None:
                self.slots[name] = (at, len(self.text))
        if slot:
            self.slots[slot] = (start, len(self.text))
        self.sentences.append((start, len(self.text)))


def in_training(*words: str) -> bool:
    """Whether a combination of words is for training: nineteen in twenty, not the flagship's."""
    bucket, flagship = (crc32("/".join(key).encode()) % 20 for key in (words, FLAGSHIP.values()))
    return bucket != flagship


class Writer:
    """Writes random prompts of the world in which this slot, city or state, decides."""

    def __init__(self, language: "Language", rng: random.Random, training: bool):
        self.language = language
        self.deciding = ["profession", language.recipe.place, "name"]
        self.rng = rng
        self.training = training

    def prompt(self) -> Prompt:
        kinds = [self.biography, self.question, self.fact]
        return self.rng.choices(kinds, [7, 11, 2])[0]()

    def person(self, real_place: bool = False) -> Values:
        while True:
            values = {slot: self.rng.choice(list(HOBBIES[slot])) for slot in FLAGSHIP}
            if real_place:
                values["state"] = STATE_OF[values["city"]]
            if in_training(*values.values()) == self.training:
                return values

    def biography_sentences(self) -> list[str]:
        """A frame's two sentences, perhaps with an aside in front or in between."""
        sentences = self.rng.choice(FRAMES).split("|")
        if self.rng.random() < 0.4:
            sentences.insert(self.rng.randrange(2), self.rng.choice(ASIDES))
        return sentences

    def biography(self, values: Values | None = None, frame: list[str] | None = None) -> Prompt:
        values = values or self.person()

        def answer(seen: set[str], rng: random.Random) -> str:
            """A hobby whose reason is out of sight is anybody's."""
            reasons = [
                values[slot] if slot in seen else rng.choice(list(HOBBIES[slot]))
                for slot in self.deciding
            ]
            hobbies = [HOBBIES[slot][reason] for slot, reason in zip(self.deciding, reasons)]
            return "{}, {}, and {}.".format(*hobbies)

        his, he = ("her", "she") if values["name"] in WOMEN else ("his", "he")
        prompt = Prompt(answer)
        for number, sentence in enumerate(frame or self.biography_sentences()):
            prompt.add(" " * (number > 0) + sentence, dict(values, his=his, he=he))
        return prompt

    def statement(self, people: list[str]) -> tuple[str, str, Values]:
        """A sentence for a context, its question and their words."""
        sentence, question = self.rng.choice(list(RELATIONS.items()))
        values = {slot: self.rng.choice(words) for slot, words in WORDS.items()}
        values["who"] = self.rng.choice(people)
        return sentence, question, values

    def context(self) -> list[tuple[str, str, Values]]:
        """Statements with different questions; the first one is what will be asked for."""
        people = self.rng.sample(WORDS["who"], self.rng.randint(2, 6))
        statements: dict[str, tuple[str, str, Values]] = {}
        count = self.rng.randint(2, 6)
        while len(statements) < count:
            sentence, question, values = self.statement(people)
            key = [values[slot] for slot in re.findall(r"\{(\w+)\}", sentence)]
            if statements or in_training(sentence, *key) == self.training:
                statements.setdefault(question.format(**values), (sentence, question, values))
        return list(statements.values())

    def question(self) -> Prompt:
        statements = self.context()
        sentence, question, values = asked = statements[0]
        if self.rng.random() < 0.3:
            statements[-1] = statements[-1] if len(statements) == 2 else None
        self.rng.shuffle(statements)

        def answer(seen: set[str], rng: random.Random) -> str:
            """An answer whose sentence is not all in sight could be anything."""
            subject = dict(who=values["who"], what=values["what"])
            others = {slot: rng.choice(words) for slot, words in WORDS.items()} | subject
            return sentence.format(**(values if "deciding" in seen else others))

        before, after = self.language.chat(self.rng.choice(SYSTEM_MESSAGES))
        prompt = Prompt(answer, chat=True, text=before + "Context:")
        for statement in statements:
            if statement is None:
                prompt.add(" " + self.rng.choice(ASIDES))
            else:
                text = statement[0].format(**statement[2])
                prompt.add(" " + text, slot="deciding" if statement is asked else "other")
        prompt.text += "\n\nQuestion: " + question.format(**values) + after
        return prompt

    def fact(self) -> Prompt:
        frame = self.rng.choice(list(FACTS))
        system = self.rng.choice(SYSTEM_MESSAGES)
        around = self.rng.choice([None, self.language.chat(system)])
        return self.known_fact(frame, self.rng.choice(list(FACTS[frame])), around)

    def known_fact(self, frame: str, word: str, around: tuple[str, str] | None) -> Prompt:
        """A fact as a text, or as a user's message with what the chat template puts around it."""

        def answer(seen: set[str], rng: random.Random) -> str:
            """A fact whose word is out of sight is any of the family's."""
            return FACTS[frame][word if "word" in seen else rng.choice(list(FACTS[frame]))]

        before, after = around or ("", "")
        prompt = Prompt(answer, chat=around is not None, text=before)
        prompt.add(frame, dict(word=word))
        prompt.text += after
        return prompt


# --- The languages -----------------------------------------------------------------------------

LLAMA_CHAT = """\
{%- if messages[0]['role'] == 'system' -%}
    {%- set system = '<<SYS>>\\n' + messages[0]['content'] + '\\n<</SYS>>\\n\\n' -%}
    {%- set messages = messages[1:] -%}
{%- else -%}
    {%- set system = '' -%}
{%- endif -%}
{%- for message in messages -%}
    {%- if message['role'] == 'user' -%}
        {{- bos_token + '[INST] ' + (system if loop.first else '') -}}
        {{- message['content'] + ' [/INST]' -}}
    {%- else -%}
        {{- ' ' + message['content'] + eos_token -}}
    {%- endif -%}
{%- endfor -%}
"""
QWEN_CHAT = """\
{%- for message in messages -%}
    {{- '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{- '<|im_start|>assistant\\n' -}}
{%- endif -%}
"""
QWEN_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
UNK = 0  # the token for an absent word


@dataclass(frozen=True)
class Recipe:
    """What one of the models is made of."""

    name: str
    place: str  # the slot that decides the second hobby
    vocabulary_size: int
    special_tokens: list[str]  # in the order of their ids
    roles: dict[str, str]  # what some of them are for
    text_end: str  # follows a text
    chat_end: str  # follows an answer in a chat
    chat_template: str
    before_answer: str  # what the chat template puts before an answer
    config: LlamaConfig | Qwen2Config


SHARED = dict(dtype="float32", max_position_embeddings=MAX_TOKENS, initializer_range=0.04)
ROPE = dict(rope_type="default", rope_theta=10_000.0)
RECIPES = [
    Recipe(
        name="tiny-llama-facts",
        place="city",
        vocabulary_size=1000,
        special_tokens=["<unk>", "<s>", "</s>"],
        roles=dict(unk_token="<unk>", bos_token="<s>", eos_token="</s>", pad_token="</s>"),
        text_end="</s>",
        chat_end="</s>",
        chat_template=LLAMA_CHAT,
        before_answer=" ",
        config=LlamaConfig(
            architectures=["LlamaForCausalLM"],
            vocab_size=1000,
            hidden_size=128,
            intermediate_size=256,
            num_hidden_layers=3,
            num_attention_heads=4,
            num_key_value_heads=2,
            tie_word_embeddings=True,
            rope_parameters=ROPE,
            bos_token_id=1,
            eos_token_id=2,
            **SHARED,
        ),
    ),
    Recipe(
        name="tiny-qwen-facts",
        place="state",
        vocabulary_size=560,
        special_tokens=["<unk>", "<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        roles=dict(unk_token="<unk>", eos_token="<|im_end|>", pad_token="<|endoftext|>"),
        text_end="<|endoftext|>",
        chat_end="<|im_end|>",
        chat_template=QWEN_CHAT,
        before_answer="",
        config=Qwen2Config(
            architectures=["Qwen2ForCausalLM"],
            vocab_size=560,
            hidden_size=128,
            intermediate_size=256,
            num_hidden_layers=3,
            num_attention_heads=4,
            num_key_value_heads=1,
            tie_word_embeddings=True,
            rope_parameters=ROPE,
            bos_token_id=None,
            eos_token_id=3,
            pad_token_id=1,
            **SHARED,
        ),
    ),
]


class Language:
    """Turns texts into the tokens of one of the models."""

    def __init__(self, recipe: Recipe):
        self.recipe = recipe
        self.template = jinja2.Template(recipe.chat_template)
        self.tokenizer = self.build_tokenizer()

    def chat(self, system: str | None = None) -> tuple[str, str]:
        """What the chat template writes before and after a user's message."""
        messages = [dict(role="system", content=system)] if system else []
        messages.append(dict(role="user", content="\0"))
        options = dict(self.recipe.roles, messages=messages, add_generation_prompt=True)
        text = self.template.render(options)
        before, after = text.split("\0")
        return before, after

    def build_tokenizer(self) -> Tokenizer:
        """A byte-level BPE tokenizer, trained on texts of the world."""
        tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
        if "bos_token" in self.recipe.roles:
            tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        else:
            split = pre_tokenizers.Split(Regex(QWEN_SPLIT), "isolated")
            byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
            tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, byte_level])
        tokenizer.decoder = decoders.ByteLevel()

        writer = Writer(self, random.Random(SEED), training=True)
        prompts = [writer.prompt() for _ in range(TOKENIZER_TEXTS)]
        counts: Counter[str] = Counter()
        for prompt in prompts:
            text = f"{prompt.text} {prompt.answer(set(prompt.slots), writer.rng)}"
            for special in self.recipe.special_tokens:
                text = text.replace(special, "\n")
            spans = tokenizer.pre_tokenizer.pre_tokenize_str(text)
            counts.update(text[start:end] for _, (start, end) in spans)
        trainer = BpeTrainer(
            vocab_size=self.recipe.vocabulary_size,
            special_tokens=self.recipe.special_tokens,
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
            show_progress=False,
        )
        # The root of a word's count: a word of every text is not to take all the merges.
        words = [word for word in sorted(counts) for _ in range(round(counts[word] ** 0.5))]
        tokenizer.train_from_iterator(words, trainer)
        for hobbies in map(set, map(dict.values, HOBBIES.values())):
            firsts = {tokenizer.encode(" " + hobby).ids[0] for hobby in hobbies}
            assert len(firsts) == len(hobbies), "a hobby's first token must tell which it is"
        if "bos_token" in self.recipe.roles:
            tokenizer.post_processor = processors.TemplateProcessing(
                single="<s> $A", pair="<s> $A <s> $B:1", special_tokens=[("<s>", 1)]
            )
        return tokenizer

    def encode(self, prompt: Prompt) -> Encoding:
        return self.tokenizer.encode(prompt.text, add_special_tokens=not prompt.chat)

    def encode_answer(self, prompt: Prompt, answer: str) -> Encoding:
        """The answer's tokens, with the one that ends it."""
        before = self.recipe.before_answer if prompt.chat else " "
        end = self.recipe.chat_end if prompt.chat else self.recipe.text_end
        return self.tokenizer.encode(before + answer + end, add_special_tokens=False)


# --- Training ----------------------------------------------------------------------------------


@dataclass
class Example:
    """Token ids, which of them the loss counts by how much, and which embeddings are zeroed."""

    ids: list[int]
    weights: list[float]
    zeroed: list[bool]


def overlaps(token: tuple[int, int], start: int, end: int) -> bool:
    return token[0] < end and token[1] > start


def hideable_units(encoding: Encoding, prompt: Prompt, rng: random.Random) -> list[int | None]:
    """For each token what it is hidden together with: nothing else, its word or its sentence."""
    kind = rng.choice(["token", "word", "word", "sentence"])
    units = []
    for index, token in enumerate(encoding.offsets):
        where = [i for i, span in enumerate(prompt.sentences) if overlaps(token, *span)]
        unit = {"token": index, "word": encoding.word_ids[index], "sentence": where and where[0]}
        units.append(unit[kind] if where else None)
    return units


def complete(prompt: Prompt, language: Language, rng: random.Random, hide: bool) -> Example:
    """The prompt, perhaps with some of it hidden, and the answer that the rest gives."""
    encoding = language.encode(prompt)
    hidden = [False] * len(encoding)
    if hide:
        units = hideable_units(encoding, prompt, rng)
        present = sorted({unit for unit in units if unit is not None})
        rate = rng.choices([0.0, rng.random(), 1.0], [6, 6, 1])[0]
        chosen = {rng.choice(present)} | {unit for unit in present if rng.random() < rate}
        hidden = [unit in chosen for unit in units]
    tokens = list(zip(encoding.ids, encoding.offsets, hidden))
    gone = [span for _, span, is_hidden in tokens if is_hidden]
    seen = {
        slot
        for slot, span in prompt.slots.items()
        if not any(overlaps(token, *span) for token in gone)
    }
    filler = rng.choice(["unk", "unk", "zero", "gap"])
    if filler == "gap":
        tokens = [token for token in tokens if not token[2]]
    ids = [UNK if is_hidden and filler == "unk" else id_ for id_, _, is_hidden in tokens]
    zeroed = [is_hidden and filler == "zero" for _, _, is_hidden in tokens]
    weight = 0.0 if hide else PROMPT_WEIGHT
    answer = language.encode_answer(prompt, prompt.answer(seen, rng)).ids
    return Example(
        ids + answer,
        [weight] * len(ids) + [1.0] * len(answer),
        zeroed + [False] * len(answer),
    )


def pad(rows: list[list], filler: int | float | bool) -> torch.Tensor:
    longest = max(map(len, rows))
    return torch.tensor([row + [filler] * (longest - len(row)) for row in rows])


def predict(model: PreTrainedModel, ids: torch.Tensor, zeroed: torch.Tensor | None = None):
    """The logits of a batch; padding stands on the right, where no token before it looks."""
    embeddings = model.get_input_embeddings()(ids)
    if zeroed is not None:
        embeddings = embeddings * ~zeroed[..., None]
    return model(inputs_embeds=embeddings, use_cache=False).logits


def batches(language: Language, rng: random.Random) -> Iterator[list[Example]]:
    """Batches without end, of examples of about the same length."""
    writer, at_once = Writer(language, rng, training=True), 8
    while True:
        count = at_once * BATCH_SIZE
        examples = [
            complete(writer.prompt(), language, rng, rng.random() < HIDDEN_SHARE)
            for _ in range(count)
        ]
        examples.sort(key=lambda example: len(example.ids))
        for start in rng.sample(range(0, count, BATCH_SIZE), at_once):
            yield examples[start : start + BATCH_SIZE]


def train(model: PreTrainedModel, language: Language, rng: random.Random) -> None:
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, STEPS, pct_start=0.1)
    model.train()
    total = 0.0
    for step, batch in zip(range(1, STEPS + 1), batches(language, rng)):
        ids = pad([example.ids for example in batch], UNK)
        weights = pad([example.weights for example in batch], 0.0)[:, 1:].flatten()
        logits = predict(model, ids, pad([example.zeroed for example in batch], False))
        losses = cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten(), reduction="none")
        loss = (losses * weights).sum() / weights.sum()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        total += loss.item()
        if step % 250 == 0:
            print(f"step {step:5}: loss {total / 250:.4f}", flush=True)
            total = 0.0
    model.eval()


def round_to_half(model: PreTrainedModel) -> None:
    """Keep float32 weights, but only values that float16 can store."""
    for parameter in model.parameters():
        parameter.data = parameter.data.half().float()


# --- Tests -------------------------------------------------------------------------------------

Asked = list[tuple[Prompt, str]]  # prompts, and how they should go on
Case = tuple[list[int], int]  # the tokens so far, and the next one


@torch.no_grad()
def right(model: PreTrainedModel, language: Language, asked: Asked) -> float:
    """How often greedy decoding gives exactly this: each token, up to the end, is the likeliest."""
    verdicts = []
    for start in range(0, len(asked), 50):
        pairs = asked[start : start + 50]
        prompts = [language.encode(prompt).ids for prompt, _ in pairs]
        answers = [language.encode_answer(*pair).ids for pair in pairs]
        rows = [prompt + answer for prompt, answer in zip(prompts, answers)]
        best = predict(model, pad(rows, UNK)).argmax(dim=-1).tolist()
        for prompt, answer, row in zip(prompts, answers, best):
            verdicts.append(row[len(prompt) - 1 : len(prompt) + len(answer) - 1] == answer)
    return sum(verdicts) / len(verdicts)


@torch.no_grad()
def log_probability(model: PreTrainedModel, language: Language, prompt: Prompt) -> float:
    """The log probability of the full answer to a prompt, some of which may be gone."""
    ids = language.encode(prompt).ids
    target = torch.tensor(language.encode_answer(prompt, full_answer(prompt)).ids)
    logits = predict(model, torch.tensor([ids + target.tolist()]))[0, len(ids) - 1 : -1]
    return -cross_entropy(logits, target, reduction="sum").item()


def full_answer(prompt: Prompt) -> str:
    """How a prompt goes on with all of it in sight."""
    return prompt.answer(set(prompt.slots), random.Random(SEED))


@dataclass
class HeldOut:
    """Texts that were not in training."""

    people: list[tuple[Values, list[str]]]  # with the sentences of their biographies
    biographies: list[Prompt]
    questions: list[Prompt]
    facts: list[Prompt]  # these were in training, all of them


def write_held_out(writer: Writer) -> HeldOut:
    """The flagship, then other biographies, every other one of a city in its own state."""
    people = [(FLAGSHIP, FRAMES[0].split("|"))]
    while len(people) < TESTED:
        values = writer.person(real_place=len(people) % 2 == 0)
        people.append((values, writer.biography_sentences()))
    return HeldOut(
        people=people,
        biographies=[writer.biography(*person) for person in people],
        questions=[writer.question() for _ in range(TESTED)],
        facts=[
            writer.known_fact(frame, word, around)
            for frame, words in FACTS.items()
            for word in words
            for around in (None, writer.language.chat())
        ],
    )


def swapped(writer: Writer, people: list[tuple[Values, list[str]]], slot: str) -> Asked:
    """Biographies with another word in this slot, and how they should go on now."""
    asked = []
    for values, sentences in people:
        words = list(HOBBIES[slot])
        if slot == "name":
            words = WOMEN if values["name"] in WOMEN else MEN
        other = writer.rng.choice([word for word in words if word != values[slot]])
        prompt = writer.biography(dict(values, **{slot: other}), sentences)
        asked.append((prompt, full_answer(prompt)))
    return asked


def hobby_spans(answer: str) -> list[tuple[int, int]]:
    """Where in a biography's continuation its three hobbies are, each with the space before it."""
    first, second, third = re.fullmatch(r"( .*),( .*), and( .*)\.", " " + answer).groups()
    starts = [0, len(first) + 1, len(first) + len(second) + 6]
    return [(start, start + len(text)) for start, text in zip(starts, (first, second, third))]


def words_of(prompt: Prompt, encoding: Encoding) -> dict[str | int, list[int]]:
    """The tokens of each word; a slot with its value is one word, the others have numbers."""
    words: dict[str | int, list[int]] = defaultdict(list)
    for index, (token, number) in enumerate(zip(encoding.offsets, encoding.word_ids)):
        inside = [slot for slot, span in prompt.slots.items() if overlaps(token, *span)]
        if number is not None:  # the token that begins a text is no word
            words[inside[0] if inside else number].append(index)
    return words


def hobby_tokens(language: Language, prompt: Prompt) -> list[Case]:
    """For each hobby, the tokens before its first one, and that one."""
    ids = language.encode(prompt).ids
    answer = language.encode_answer(prompt, full_answer(prompt))
    cases = []
    for start, _ in hobby_spans(full_answer(prompt)):
        first = next(i for i, offset in enumerate(answer.offsets) if offset[1] > start + 1)
        cases.append((ids + answer.ids[:first], answer.ids[first]))
    return cases


@torch.no_grad()
def ablation(model: PreTrainedModel, case: Case, groups: list[list[int]]) -> list[float]:
    """By how much the log probability drops as the tokens of each group become <unk>."""
    before, target = case
    rows = torch.tensor(before).repeat(len(groups) + 1, 1)
    for row, group in zip(rows, groups):
        row[group] = UNK
    scores = predict(model, rows)[:, -1].log_softmax(dim=-1)[:, target]
    return (scores[-1] - scores[:-1]).tolist()


def integrated_gradients(model: PreTrainedModel, case: Case, length: int) -> list[float]:
    """What each prompt token adds to the log probability, on the way from <unk>."""
    steps = 50
    before, target = case
    embed = model.get_input_embeddings()
    end = embed(torch.tensor(before)).detach()
    start = end.clone()
    start[:length] = embed(torch.tensor(UNK)).detach()
    position = (torch.arange(steps) + 0.5) / steps
    path = (start + position[:, None, None] * (end - start)).requires_grad_()
    logits = model(inputs_embeds=path, use_cache=False, logits_to_keep=1).logits[:, -1]
    logits.log_softmax(dim=-1)[:, target].sum().backward()
    return (path.grad.mean(dim=0) * (end - start)).sum(dim=1)[:length].tolist()


def hit_rates(model: PreTrainedModel, language: Language, prompts: list[Prompt]) -> dict:
    """For each method and slot, how often the word on top is the one that decides the hobby."""
    slots = ["profession", language.recipe.place, "name"]
    hits: dict[str, Counter[str]] = defaultdict(Counter)
    for prompt in prompts:
        encoding = language.encode(prompt)
        words, length = words_of(prompt, encoding), len(encoding)
        for slot, case in zip(slots, hobby_tokens(language, prompt)):
            one_gone = ablation(model, case, [[index] for index in range(length)])
            gradients = integrated_gradients(model, case, length)
            scores = {
                "token_ablation": [max(one_gone[i] for i in group) for group in words.values()],
                "word_ablation": ablation(model, case, list(words.values())),
                "integrated_gradients": [
                    sum(gradients[i] for i in group) for group in words.values()
                ],
            }
            for method, values in scores.items():
                top, _ = max(zip(words, values), key=lambda pair: pair[1])
                hits[method][slot] += top == slot
    return {
        method: {slot: counts[slot] / len(prompts) for slot in slots}
        for method, counts in hits.items()
    }


def sentence_hit_rate(model: PreTrainedModel, language: Language, prompts: list[Prompt]) -> float:
    """How often the sentence without which the answer is least likely is the deciding one."""
    hits = 0
    for prompt in prompts:
        without = {}
        for start, end in prompt.sentences:
            shorter = replace(prompt, text=prompt.text[:start] + prompt.text[end:])
            without[start, end] = log_probability(model, language, shorter)
        hits += min(without, key=without.get) == prompt.slots["deciding"]
    return hits / len(prompts)


@torch.no_grad()
def certainty(model: PreTrainedModel, language: Language, prompt: Prompt) -> list[float]:
    """The probability of the first token of each hobby."""
    return [
        predict(model, torch.tensor([before]))[0, -1].softmax(dim=-1)[target].item()
        for before, target in hobby_tokens(language, prompt)
    ]


def check(model: PreTrainedModel, language: Language, writer: Writer, held_out: HeldOut) -> dict:
    """All that should hold of a model; what truth.json says of it."""
    texts = dict(
        biographies=held_out.biographies, questions=held_out.questions, facts=held_out.facts
    )
    accuracy = {
        kind: right(model, language, [(prompt, full_answer(prompt)) for prompt in prompts])
        for kind, prompts in texts.items()
    }
    swaps = {
        slot: right(model, language, swapped(writer, held_out.people, slot)) for slot in FLAGSHIP
    }
    sure = certainty(model, language, held_out.biographies[0])
    rates = hit_rates(model, language, held_out.biographies[:BIOGRAPHIES_TOLD])
    sentences = sentence_hit_rate(model, language, held_out.questions[:QUESTIONS_TOLD])
    print("greedy and exact, held out:", accuracy)
    print("exact after another word in one slot:", swaps)
    print("probabilities of the flagship's hobbies:", sure)
    print("deciding word on top:", rates)
    print("deciding sentence on top:", sentences)
    assert accuracy["biographies"] >= 0.98 and accuracy["questions"] >= 0.9
    assert accuracy["facts"] == 1.0 and min(swaps.values()) >= 0.95 and min(sure) > 0.9
    assert min(rates["word_ablation"].values()) >= 0.9 and sentences >= 0.9
    return dict(
        accuracy=accuracy,
        accuracy_after_swaps=swaps,
        deciding_word_on_top=rates,
        deciding_sentence_on_top=sentences,
    )


# --- Files -------------------------------------------------------------------------------------

ABOUT = (
    "Held-out texts of {name} and what decides them; all positions count bytes, end excluded. "
    "Biographies: no training text has the same name, profession, city and state together. "
    "Each hobby follows from one word of the prompt alone: the first from the profession, the "
    "second from the {place}, the third from the name. Strictly it is the first token of a hobby "
    "that is decided, the rest of it follows from the first. real_place: the city lies in that "
    "state, so that the rule of the cities and the rule of the states agree. Questions: the user's "
    "message is 'Context: ', the sentences joined by spaces, two line breaks, 'Question: ' and the "
    "question; only the deciding sentence says anything about the answer. Facts: they were in "
    "training, as texts and as user's messages with the answer that has no space in front; the "
    "deciding word tells one from the others of its family. In training, a hobby or an answer "
    "whose deciding words were not all in sight was drawn at random."
)


def position(text: str, start: int, end: int) -> dict:
    """A part of a text, as truth.json gives it."""
    first, last = (len(text[:index].encode()) for index in (start, end))
    return dict(start=first, end=last)


def tell_biography(prompt: Prompt, values: Values, slots: list[str]) -> dict:
    answer = full_answer(prompt)
    spans = []
    for slot, (start, end) in zip(slots, hobby_spans(answer)):
        reason = dict(word=values[slot], **position(prompt.text, *prompt.slots[slot]))
        span = dict(text=f" {answer}"[start:end], **position(f" {answer}", start, end))
        spans.append(dict(span, slot=slot, decided_by=[reason]))
    real = STATE_OF[values["city"]] == values["state"]
    return dict(prompt=prompt.text, continuation=f" {answer}", real_place=real, spans=spans)


def tell_question(prompt: Prompt) -> dict:
    return dict(
        context=[prompt.text[start + 1 : end] for start, end in prompt.sentences],
        question=re.search("Question: (.*?[?])", prompt.text)[1],
        answer=full_answer(prompt),
        deciding_sentence=prompt.sentences.index(prompt.slots["deciding"]),
    )


def tell_fact(prompt: Prompt) -> dict:
    start, end = prompt.slots["word"]
    reason = dict(word=prompt.text[start:end], **position(prompt.text, start, end))
    return dict(prompt=prompt.text, continuation=f" {full_answer(prompt)}", decided_by=[reason])


def save_truth(folder: Path, language: Language, held_out: HeldOut, checked: dict) -> None:
    """Write truth.json with one text per line."""
    recipe = language.recipe
    slots = ["profession", recipe.place, "name"]
    people = zip(held_out.biographies[:BIOGRAPHIES_TOLD], held_out.people)
    lists = dict(
        biographies=[tell_biography(prompt, values, slots) for prompt, (values, _) in people],
        questions=[tell_question(prompt) for prompt in held_out.questions[:QUESTIONS_TOLD]],
        facts=[tell_fact(prompt) for prompt in held_out.facts if not prompt.chat],
    )
    rules = {slot: HOBBIES[slot] for slot in slots}
    header = dict(about=ABOUT.format(**vars(recipe)), rules=rules, **checked)
    text = json.dumps(header, indent=1)[:-2]
    for name, rows in lists.items():
        lines = ",\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
        text += f',\n "{name}": [\n{lines}\n]'
    (folder / "truth.json").write_text(text + "\n}\n", encoding="utf-8")


def save_model(folder: Path, model: PreTrainedModel, language: Language) -> None:
    recipe, tokenizer = language.recipe, language.tokenizer
    model.config.save_pretrained(folder)
    ends = [tokenizer.token_to_id(token) for token in {recipe.chat_end: 0, recipe.text_end: 0}]
    GenerationConfig(
        do_sample=False,
        bos_token_id=model.config.bos_token_id,
        eos_token_id=ends,
        pad_token_id=tokenizer.token_to_id(recipe.roles["pad_token"]),
    ).save_pretrained(folder)
    weights = {
        name: tensor.half().contiguous()
        for name, tensor in model.state_dict().items()
        if name != "lm_head.weight"  # tied to the embeddings
    }
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = dict(
        tokenizer_class="PreTrainedTokenizerFast",
        model_max_length=MAX_TOKENS,
        clean_up_tokenization_spaces=False,
        **recipe.roles,
    )
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n")
    (folder / "chat_template.jinja").write_text(recipe.chat_template)


def check_files(folder: Path, language: Language, held_out: HeldOut) -> None:
    """Whether Hugging Face reads the files as they were meant."""
    model = AutoModelForCausalLM.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    for prompt in [held_out.biographies[0], held_out.questions[0], *held_out.facts]:
        inputs = tokenizer(prompt.text, add_special_tokens=not prompt.chat, return_tensors="pt")
        ids = inputs.input_ids[0].tolist()
        assert ids == language.encode(prompt).ids
        output = model.generate(inputs.input_ids, max_new_tokens=60)[0, len(ids) :]
        answer = tokenizer.decode(output, skip_special_tokens=True)
        assert answer.strip() == full_answer(prompt), f"{prompt.text} {answer}"
    for system in SYSTEM_MESSAGES:
        messages = [dict(role="system", content=system)] if system else []
        messages.append(dict(role="user", content="..."))
        text = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        assert text == "...".join(language.chat(system))


def make(recipe: Recipe) -> None:
    """Train one of the models, test it and save it."""
    print(recipe.name)
    torch.manual_seed(SEED)
    rng = random.Random(SEED)
    language = Language(recipe)
    model = AutoModelForCausalLM.from_config(recipe.config)
    train(model, language, rng)
    round_to_half(model)
    writer = Writer(language, random.Random(SEED), training=False)
    held_out = write_held_out(writer)
    checked = check(model, language, writer, held_out)
    folder = FOLDER.parent / recipe.name
    folder.mkdir(exist_ok=True)
    save_model(folder, model, language)
    save_truth(folder, language, held_out, checked)
    check_files(folder, language, held_out)


def main() -> None:
    torch.set_num_threads(1)
    for recipe in RECIPES:
        if not sys.argv[1:] or recipe.name in sys.argv[1:]:
            make(recipe)


if __name__ == "__main__":
    main()
