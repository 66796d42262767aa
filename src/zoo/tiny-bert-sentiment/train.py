"""Make pellucid/tiny-bert-sentiment: a tiny BERT whose every answer has a known reason.

The script writes short reviews from a small grammar, trains a sentiment classifier on them and
saves, next to itself, everything that the model zoo embeds:

    config.json, model.safetensors                    the model, as Hugging Face lays it out
    tokenizer.json, tokenizer_config.json, vocab.txt  its WordPiece tokenizer
    truth.json                                        held-out sentences and the words that decide

Because the grammar writes each sentence, it also knows why the sentence is positive or negative:

    sentiment    the word that carries the opinion                      "loved", "disaster"
    negator      turns the opinion around                               "not", "didn't", "nobody"
    intensifier  strengthens an opinion that is not negated             "absolutely", "real"
    contrast     the "but" after which the deciding clause begins
    conceded     role words of the clause before "but": they have no say
    neutral      all the rest; balanced between the labels, so it says nothing

Training hides random words and asks for the answer that the words still in sight give, down to
"undecided" once the sentiment word is gone. The model thereby learns what a missing word means,
which makes a blank sentence a fair baseline for explanations.

Run it here; one CPU core needs a few minutes:

    pip install -r requirements.txt
    python train.py
"""

import json
import math
import random
import string
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from torch.nn.functional import cross_entropy
from torch.nn.utils.rnn import pad_sequence
from transformers import BertConfig
from transformers import BertForSequenceClassification as Bert

FOLDER = Path(__file__).parent
SEED = 20
EPOCHS, BATCH_SIZE, LEARNING_RATE = 14, 64, 6e-4
TRAINING_SENTENCES, HELD_OUT_SENTENCES = 20_000, 200
MAX_TOKENS = 48

LABELS = ["negative", "positive"]
PLAIN_LOGIT, STRONG_LOGIT = 2.5, 4.5  # what the logits should differ by: 92 % or 99 % sure

SPECIAL_TOKENS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
PAD, UNK, CLS, SEP, MASK = range(len(SPECIAL_TOKENS))


# --- The grammar -------------------------------------------------------------------------------

# A frame is a clause with slots. "!" marks a negator; <word> takes the sentiment word (<base> the
# infinitive of a verb, written after the slash); the slots of INTENSIFIERS may stay empty.
# Each family of sentiment words has its frames, its positive words and its negative words.
FAMILIES = [
    (  # adjectives
        [
            "<thing> was <very> <word>", "<thing> is <very> <word>",
            "<thing> seemed <very> <word> to me", "<thing> turned out to be <very> <word>",
            "<person> found <thing> <very> <word>", "<person> called <thing> <very> <word>",
            "it was a <very> <word> <topic>", "this <topic> had a <very> <word> side",
            "<thing> was !not <rather> <word>", "<thing> was !not <word> at all",
            "<thing> is !not <rather> <word>", "<thing> !wasn't <rather> <word>",
            "<thing> !isn't <rather> <word>", "<thing> was !never <word>",
            "<thing> was !hardly <word>", "<person> did !not find <thing> <rather> <word>",
            "<person> !didn't find <thing> <word>", "there was !nothing <word> about <thing>",
            "!nobody found <thing> <word>", "!no one called <thing> <word>",
            "it was !not a <word> <topic>", "it !wasn't a <rather> <word> <topic>",
        ],
        """good great wonderful excellent amazing fantastic brilliant lovely beautiful superb
        charming perfect pleasant funny clever splendid impressive enjoyable delightful
        unforgettable heartwarming breathtaking outstanding remarkable inspiring""",
        """bad poor terrible awful horrible boring dull ugly weak shoddy bland tedious annoying
        stupid clumsy messy nasty disappointing dreadful unpleasant unbearable forgettable
        lifeless pointless depressing""",
    ),
    (  # verbs
        [
            "<person> <truly> <word> <thing>", "<name> and I <truly> <word> <thing>",
            "everyone <truly> <word> <thing>", "most of us <truly> <word> <thing>",
            "<person> did !not <rather> <base> <thing>", "<person> did !not <base> <thing> at all",
            "<person> !didn't <rather> <base> <thing>", "<person> could !not <base> <thing>",
            "<person> !couldn't <base> <thing>", "<person> !never <word> <thing>",
            "<person> !hardly <word> <thing>", "!nobody <word> <thing>", "!no one <word> <thing>",
        ],
        """loved/love liked/like enjoyed/enjoy adored/adore admired/admire praised/praise
        treasured/treasure recommended/recommend""",
        """hated/hate disliked/dislike detested/detest loathed/loathe despised/despise
        regretted/regret resented/resent slammed/slam""",
    ),
    (  # nouns
        [
            "<thing> was a <real> <word>", "<thing> proved a <real> <word>",
            "this <topic> is a <real> <word>", "<person> considered <thing> a <real> <word>",
            "<thing> was !not a <word>", "<thing> !wasn't a <word>", "<thing> was !no <word>",
            "<thing> is !no <word>", "<thing> was !hardly a <word>", "<thing> was !never a <word>",
        ],
        "masterpiece triumph gem treat joy delight wonder success",
        "disaster failure mess letdown nightmare bore flop insult",
    ),
    (  # feelings
        [
            "<person> left <truly> <word>", "I was <truly> <word> by <thing>",
            "<thing> left me <truly> <word>", "<person> did !not leave <rather> <word>",
            "I was !not <rather> <word> by <thing>", "I !wasn't <word> by <thing>",
            "I was !never <word> by <thing>", "<thing> did !not leave me <word>",
        ],
        "impressed delighted charmed thrilled pleased amazed cheered inspired",
        "disappointed bored annoyed frustrated disgusted irritated saddened depressed",
    ),
]  # fmt: skip

TOPICS = {
    "film": "film movie plot acting ending script camera cast".split(),
    "meal": "meal food soup dessert service waiter menu bread".split(),
    "book": "book story novel chapter style cover author prologue".split(),
    "hotel": "hotel room bed breakfast view pool lobby staff".split(),
    "concert": "concert band singer sound stage encore choir drummer".split(),
    "phone": "phone screen battery keyboard speaker charger case software".split(),
}
NAMES = "Priya Oskar Zoe Felix Javier Quentin Maya Hugo Bianka Dylan Wim Marc".split()
PEOPLE = ["I", "we", "my sister", "my brother", "our friends", "the critics", "the guests", *NAMES]
LEADS = [
    "last night", "in my view", "on the whole", "as it happens", "after the break", "this time",
    "on our second visit", "back in May", "when <name> came along", "on day <number>",
]  # fmt: skip
TRAILS = [
    "from start to finish", "last week", "that evening", "with <name>", "during our trip",
    "on page <number>", "after <number> minutes", "in the second half", "yesterday", "in the end",
]  # fmt: skip
FACTS = [
    "<person> read <number> reviews of <thing>", "<person> heard about <thing> from <name>",
    "<person> came with <number> friends", "<name> told me about <thing>",
]  # fmt: skip
INTENSIFIERS = {
    "<very>": "absolutely really very truly extremely".split(),
    "<truly>": "absolutely really truly deeply completely thoroughly".split(),
    "<rather>": "really particularly especially".split(),
    "<real>": "real true complete absolute total".split(),
}
ENDINGS = [".", ".", "!", ""]

# Words that the tokenizer must split. All other words of the grammar are tokens of their own,
# except for names and numbers, which are spelled out.
SPLITS = [
    "absolute ##ly", "extreme ##ly", "deep ##ly", "complete ##ly", "thorough ##ly",
    "particular ##ly", "especial ##ly", "un ##forget ##table", "forget ##table",
    "disappoint ##ing", "disappoint ##ed", "enjoy ##able", "enjoy ##ed", "delight ##ful",
    "delight ##ed", "dread ##ful", "heart ##warm ##ing", "breath ##taking", "out ##standing",
    "un ##pleasant", "un ##bear ##able", "life ##less", "point ##less", "master ##piece",
    "fail ##ure", "night ##mare", "adore ##d", "treasure ##d", "detest ##ed", "loathe ##d",
    "recommend ##ed", "remark ##able", "inspir ##ing", "depress ##ing", "frustrat ##ed",
]  # fmt: skip


# --- Sentences and what they mean --------------------------------------------------------------


@dataclass(frozen=True)
class Word:
    text: str
    role: str = "neutral"
    polarity: int = 0  # +1 or -1 for a sentiment word


Sentence = list[Word]


@dataclass(frozen=True)
class Pattern:
    """A frame together with the sentiment word to put into it."""

    frame: str
    word: str
    polarity: int

    @property
    def negated(self) -> bool:
        return "!" in self.frame

    @property
    def label(self) -> int:
        return int((self.polarity > 0) != self.negated)


# For each label, pools of patterns to choose from; a pool shares its family and its negation.
Pools = dict[int, list[list[Pattern]]]


def target_logit(words: Sentence) -> float:
    """The right answer for these words: the positive minus the negative logit."""
    roles = {word.role for word in words}
    negated = "negator" in roles
    strong = "intensifier" in roles and not negated
    polarity = sum(word.polarity for word in words)
    return polarity * (-1 if negated else 1) * (STRONG_LOGIT if strong else PLAIN_LOGIT)


def split_patterns(rng: random.Random) -> tuple[Pools, Pools]:
    """Share out all patterns: nine in ten are for training, the others only for testing."""
    training: Pools = {0: [], 1: []}
    held_out: Pools = {0: [], 1: []}
    for frames, positive, negative in FAMILIES:
        words = [(word, 1) for word in positive.split()] + [(word, -1) for word in negative.split()]
        patterns = [Pattern(frame, *word) for frame in frames for word in words]
        for label in (0, 1):
            for negated in (False, True):
                pool = [p for p in patterns if p.label == label and p.negated == negated]
                rng.shuffle(pool)
                training[label].append(pool[len(pool) // 10 :])
                held_out[label].append(pool[: len(pool) // 10])
    return training, held_out


class Writer:
    """Writes random sentences from pools of patterns."""

    def __init__(self, pools: Pools, rng: random.Random):
        self.pools = pools
        self.rng = rng

    def sentence(self, label: int) -> Sentence:
        """A sentence with this label: alone, after a fact, or after an opposite opinion."""
        topic = self.rng.choice(list(TOPICS))
        kind = self.rng.choices(["single", "fact", "concession"], [6, 1, 3])[0]
        if kind == "single":
            before = self.maybe(LEADS, topic)
            words = [*before, Word(",")] if before else []
        elif kind == "fact":
            words = [*self.fill(self.rng.choice(FACTS), topic), Word(","), Word("and")]
        else:
            conceded = [concede(word) for word in self.opinion(1 - label, topic)]
            words = [*conceded, Word(","), Word("but", "contrast")]
        words += self.opinion(label, topic) + self.maybe(TRAILS, topic)
        ending = self.rng.choice(ENDINGS)
        return with_articles(words + ([Word(ending)] if ending else []))

    def opinion(self, label: int, topic: str) -> Sentence:
        pattern = self.rng.choice(self.rng.choice(self.pools[label]))
        return self.fill(pattern.frame, topic, pattern)

    def maybe(self, frames: list[str], topic: str) -> Sentence:
        return self.fill(self.rng.choice(frames), topic) if self.rng.random() < 0.3 else []

    def fill(self, frame: str, topic: str, pattern: Pattern | None = None) -> Sentence:
        return [word for part in frame.split() for word in self.fill_part(part, topic, pattern)]

    def fill_part(self, part: str, topic: str, pattern: Pattern | None) -> Sentence:
        if part.startswith("!"):
            return [Word(part[1:], "negator")]
        if part in ("<word>", "<base>"):
            forms = pattern.word.split("/")
            form = forms[0] if part == "<word>" else forms[1]
            return [Word(form, "sentiment", pattern.polarity)]
        if part in INTENSIFIERS:
            chosen = self.rng.choice(INTENSIFIERS[part])
            return [Word(chosen, "intensifier")] if self.rng.random() < 0.5 else []
        return [Word(text) for text in self.neutral(part, topic).split()]

    def neutral(self, part: str, topic: str) -> str:
        match part:
            case "<topic>":
                return topic
            case "<thing>":
                return self.rng.choice(["the ", "the ", "this "]) + self.rng.choice(TOPICS[topic])
            case "<person>":
                return self.rng.choice(PEOPLE)
            case "<name>":
                return self.rng.choice(NAMES)
            case "<number>":
                return str(self.rng.randint(2, 199))
        return part


def concede(word: Word) -> Word:
    return word if word.role == "neutral" else replace(word, role="conceded", polarity=0)


def with_articles(words: Sentence) -> Sentence:
    """Turn "a" into "an" where the next word begins with a vowel."""
    following = [*words[1:], Word(".")]
    return [
        replace(word, text="an") if word.text == "a" and after.text[0] in "aeiou" else word
        for word, after in zip(words, following)
    ]


def spell(words: Sentence) -> tuple[str, list[dict]]:
    """The sentence as text, and where in it the words with a role are."""
    text, roles = "", []
    for word in words:
        if text and word.text not in string.punctuation:
            text += " "
        start = len(text)
        text += word.text if text else word.text.capitalize()
        if word.role != "neutral":
            roles.append(dict(word=text[start:], start=start, end=len(text), role=word.role))
    return text, roles


def write_sentences(count: int, pools: Pools, rng: random.Random) -> list[Sentence]:
    """Different sentences, every other one of them positive."""
    writer, sentences = Writer(pools, rng), {}
    while len(sentences) < count:
        words = writer.sentence(label=len(sentences) % 2)
        sentences.setdefault(spell(words)[0], words)
    return list(sentences.values())


# --- The tokenizer -----------------------------------------------------------------------------


def build_vocabulary(sentences: list[Sentence]) -> list[str]:
    """Special tokens, characters, pieces of the words to split, then words by frequency."""
    characters = string.ascii_lowercase + string.digits
    pieces = sorted({piece for split in SPLITS for piece in split.split()})
    split_words = {split.replace(" ##", "") for split in SPLITS}
    unlisted = split_words | {name.lower() for name in NAMES}
    pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    counts = Counter(
        token
        for sentence in sentences
        for token, _ in pre_tokenizer.pre_tokenize_str(spell(sentence)[0].lower())
        if token not in unlisted and not token.isdigit()
    )
    words = sorted(counts, key=lambda word: (-counts[word], word))
    continued = [f"##{character}" for character in characters]
    vocabulary = [*SPECIAL_TOKENS, *string.punctuation, *characters, *continued, *pieces, *words]
    return list(dict.fromkeys(vocabulary))


def build_tokenizer(vocabulary: list[str]) -> Tokenizer:
    ids = {token: index for index, token in enumerate(vocabulary)}
    tokenizer = Tokenizer(models.WordPiece(ids, unk_token="[UNK]", max_input_chars_per_word=100))
    tokenizer.add_special_tokens(SPECIAL_TOKENS)
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", CLS), ("[SEP]", SEP)],
    )
    for split in SPLITS:
        word = split.replace(" ##", "")
        assert tokenizer.encode(word, add_special_tokens=False).tokens == split.split(), word
    return tokenizer


# --- Training ----------------------------------------------------------------------------------


def build_model(vocabulary_size: int) -> Bert:
    config = BertConfig(
        architectures=["BertForSequenceClassification"],
        dtype="float32",
        vocab_size=vocabulary_size,
        hidden_size=64,
        num_hidden_layers=3,
        num_attention_heads=4,
        intermediate_size=128,
        max_position_embeddings=MAX_TOKENS,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        pad_token_id=PAD,
        id2label=dict(enumerate(LABELS)),
        label2id={label: index for index, label in enumerate(LABELS)},
    )
    return Bert(config)


Pieces = dict[str, list[int]]  # the token ids of each word


def hide_words(words: Sentence, pieces: Pieces, rng: random.Random) -> tuple[list[int], float]:
    """Token ids with some words blanked or left out, and the target for the words still there."""
    rate = rng.choices([0.0, rng.random(), 1.0], [10, 9, 1])[0]
    filler = rng.choice([[PAD], [UNK], [MASK], []])
    ids, kept = [CLS], []
    for word in words:
        protected = word.role == "contrast" and rate < 1
        if rng.random() < rate and not protected:
            ids += filler * len(pieces[word.text])
        else:
            ids += pieces[word.text]
            kept.append(word)
    return [*ids, SEP], target_logit(kept)


def predict(model: Bert, ids: list[list[int]]) -> torch.Tensor:
    """The logits of a batch of token ids."""
    batch = pad_sequence([torch.tensor(row) for row in ids], batch_first=True, padding_value=PAD)
    lengths = torch.tensor([[len(row)] for row in ids])
    return model(input_ids=batch, attention_mask=torch.arange(batch.shape[1]) < lengths).logits


def train(model: Bert, sentences: list[Sentence], pieces: Pieces, rng: random.Random) -> None:
    steps = EPOCHS * math.ceil(len(sentences) / BATCH_SIZE)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, steps, pct_start=0.1)
    model.train()
    for epoch in range(EPOCHS):
        total = 0.0
        shuffled = rng.sample(sentences, len(sentences))
        for start in range(0, len(sentences), BATCH_SIZE):
            batch = shuffled[start : start + BATCH_SIZE]
            ids, targets = zip(*(hide_words(words, pieces, rng) for words in batch))
            positive = torch.sigmoid(torch.tensor(targets))
            loss = cross_entropy(predict(model, ids), torch.stack([1 - positive, positive], dim=1))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item() * len(batch)
        print(f"epoch {epoch + 1:2}: loss {total / len(sentences):.4f}", flush=True)
    model.eval()


def round_to_half(model: Bert) -> None:
    """Keep float32 weights, but only values that float16 can store."""
    for parameter in model.parameters():
        parameter.data = parameter.data.half().float()


@torch.no_grad()
def accuracy(model: Bert, tokenizer: Tokenizer, truth: list[dict]) -> float:
    ids = [tokenizer.encode(sentence["text"]).ids for sentence in truth]
    labels = torch.tensor([sentence["label"] for sentence in truth])
    return (predict(model, ids).argmax(dim=1) == labels).float().mean().item()


# --- The known truth, and a first check of it --------------------------------------------------


def describe(sentences: list[Sentence]) -> list[dict]:
    """The sentences as they appear in truth.json."""
    truth = []
    for words in sentences:
        text, roles = spell(words)
        truth.append(dict(text=text, label=int(target_logit(words) > 0), roles=roles))
    return truth


def integrated_gradients(model: Bert, ids: list[int]) -> list[float]:
    """What each token adds to the logit difference, starting from a sentence of [MASK]s."""
    steps = 50
    embed = model.get_input_embeddings()
    end = embed(torch.tensor(ids)).detach()
    start = embed(torch.tensor([CLS, *[MASK] * (len(ids) - 2), SEP])).detach()
    position = (torch.arange(steps) + 0.5) / steps
    path = (start + position[:, None, None] * (end - start)).requires_grad_()
    logits = model(inputs_embeds=path).logits
    (logits[:, 1] - logits[:, 0]).sum().backward()
    return (path.grad.mean(dim=0) * (end - start)).sum(dim=1).tolist()


def explained(model: Bert, tokenizer: Tokenizer, sentence: dict) -> bool:
    """Whether the word with the largest attribution is the sentiment word or its negator."""
    encoding = tokenizer.encode(sentence["text"])
    scores: Counter[int] = Counter()
    for score, (start, _) in zip(integrated_gradients(model, encoding.ids), encoding.offsets):
        first_letter = sentence["text"].rfind(" ", 0, start + 1) + 1
        scores[first_letter] += score
    top = max(scores, key=lambda word: abs(scores[word]))
    deciding = [r["start"] for r in sentence["roles"] if r["role"] in ("sentiment", "negator")]
    return top in deciding


# --- Files -------------------------------------------------------------------------------------

ABOUT = (
    "Held-out sentences of tiny-bert-sentiment. No training sentence has the same sentiment word "
    "in the same frame. start and end count characters, end excluded. The label follows from the "
    "sentiment word and the negators alone; an intensifier strengthens an opinion that is not "
    "negated; conceded words, in the clause before the contrast, have no say; neither has any word "
    "without a role. The logits are trained to differ by "
    f"{PLAIN_LOGIT}, with an intensifier by {STRONG_LOGIT}, without a sentiment word by 0."
)


def save(model: Bert, tokenizer: Tokenizer, vocabulary: list[str], truth: list[dict]) -> None:
    model.config.save_pretrained(FOLDER)
    weights = {name: tensor.half().contiguous() for name, tensor in model.state_dict().items()}
    save_file(weights, FOLDER / "model.safetensors", metadata={"format": "pt"})
    tokenizer.save(str(FOLDER / "tokenizer.json"))
    settings = dict(
        tokenizer_class="BertTokenizer",
        do_lower_case=True,
        model_max_length=MAX_TOKENS,
        **{f"{name.strip('[]').lower()}_token": name for name in SPECIAL_TOKENS},
    )
    (FOLDER / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n")
    (FOLDER / "vocab.txt").write_text("\n".join(vocabulary) + "\n")
    save_truth(model, tokenizer, truth)


def save_truth(model: Bert, tokenizer: Tokenizer, truth: list[dict]) -> None:
    """Write truth.json with one sentence per line."""
    header = dict(about=ABOUT, labels=LABELS, accuracy=accuracy(model, tokenizer, truth))
    rows = ",\n".join(json.dumps(sentence) for sentence in truth)
    text = json.dumps(header, indent=1)[:-2] + f',\n "sentences": [\n{rows}\n]}}\n'
    (FOLDER / "truth.json").write_text(text)


def main() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(SEED)
    rng = random.Random(SEED)

    training_pools, held_out_pools = split_patterns(rng)
    sentences = write_sentences(TRAINING_SENTENCES, training_pools, rng)
    truth = describe(write_sentences(HELD_OUT_SENTENCES, held_out_pools, rng))

    vocabulary = build_vocabulary(sentences)
    tokenizer = build_tokenizer(vocabulary)
    texts = {word.text for words in sentences for word in words}
    pieces = {text: tokenizer.encode(text, add_special_tokens=False).ids for text in texts}

    model = build_model(len(vocabulary))
    train(model, sentences, pieces, rng)
    print(f"held-out accuracy with float32 weights: {accuracy(model, tokenizer, truth):.3f}")
    round_to_half(model)
    print(f"held-out accuracy with float16 weights: {accuracy(model, tokenizer, truth):.3f}")
    save(model, tokenizer, vocabulary, truth)

    clauses = [s for s in truth if all(role["role"] != "contrast" for role in s["roles"])]
    hits = sum(explained(model, tokenizer, sentence) for sentence in clauses)
    print(f"integrated gradients: a deciding word on top in {hits} of {len(clauses)} sentences")


if __name__ == "__main__":
    main()
