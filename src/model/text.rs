//! Text as a model reads it: tokens, where they stand in the text, and which words they are pieces of.

use std::collections::BTreeSet;
use std::ops::{Bound, Range, RangeBounds};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokenizers::models::ModelWrapper;
use tokenizers::models::wordpiece::WordPiece;
use tokenizers::normalizers::bert::BertNormalizer;
use tokenizers::pre_tokenizers::bert::BertPreTokenizer;
use tokenizers::processors::template::TemplateProcessing;
use tokenizers::{Encoding, Tokenizer as Engine};
use unicode_segmentation::UnicodeSegmentation;

use crate::{Error, Result};

/// One token of a text, or, after summing, one word.
///
/// ```
/// # use pellucid::prelude::*;
/// let bert = Bert::load("pellucid/tiny-bert-sentiment")?;
/// let text = bert.read("I loved it.")?;
/// let Token { start, end, word, special, .. } = text.tokens()[2].clone();
/// assert_eq!(&text.source()[start..end], "loved");
/// assert!(word.is_some() && !special && text.tokens()[0].special);    // [CLS]
/// # Ok::<(), pellucid::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Token {
    /// What to print: a special token or a piece of a WordPiece vocabulary as the tokenizer spells it, any other token and
    /// every word as the text does. A token that goes on within a character, as bytes do, begins with `…`.
    pub text: String,
    /// Its number in the vocabulary; that of its first piece for a word.
    pub id: u32,
    /// Where it starts in the text, in bytes.
    pub start: usize,
    /// Where it ends in the text, in bytes, exclusive.
    pub end: usize,
    /// The number of the word it is a piece of, by Unicode's rules; `None` for special tokens and for space.
    pub word: Option<u32>,
    /// Whether the tokenizer put it there: `[CLS]`, `[SEP]`, `[PAD]`.
    pub special: bool,
}

impl Token {
    /// Whether this token is a further piece of the word `before` belongs to.
    pub(crate) fn continues(&self, before: &Token) -> bool {
        self.word.is_some() && self.word == before.word
    }

    /// Where its first character that is no space stands; `None` if it has none.
    pub(crate) fn first_letter(&self, text: &str) -> Option<usize> {
        let spelling = text.get(self.start..self.end)?;
        let letter = self.start + spelling.len() - spelling.trim_start().len();
        (letter < self.end).then_some(letter)
    }

    /// The token as the first piece of a word, spelled as in the text.
    pub(crate) fn as_word(&self, text: &str) -> Token {
        let mut word = self.clone();
        if !self.special {
            word.respell(text);
        }
        word
    }

    /// The word grows by a further piece.
    pub(crate) fn absorb(&mut self, piece: &Token, text: &str) {
        self.end = piece.end;
        self.respell(text);
    }

    /// Spells the word as the text does.
    fn respell(&mut self, text: &str) {
        if let Some(spelling) = text.get(self.start..self.end) {
            let word = spelling.trim();
            if !word.is_empty() {
                self.start += spelling.len() - spelling.trim_start().len();
                self.text = word.to_string();
            }
        }
    }
}

/// A text, or a pair of texts, as token ids `(t,)`.
///
/// ```
/// # use pellucid::prelude::*;
/// let bert = Bert::load("pellucid/tiny-bert-sentiment")?;
/// let text = bert.read("I loved it.")?;
/// assert_eq!((text.len(), text.source()), (6, "I loved it."));    // with [CLS] and [SEP]
/// assert_eq!(text.ids()[text.span("loved")?.start], bert.tokenizer().id("loved")?);
/// # Ok::<(), pellucid::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Text {
    source: String,
    tokens: Vec<Token>,
    type_ids: Vec<u32>,
    mask: Vec<bool>,
}

impl Text {
    /// The text itself; a pair is joined by a space.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// How many tokens it has, special ones included.
    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    /// Whether it has no tokens; a text that was read has some.
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }

    /// Its tokens.
    pub fn tokens(&self) -> &[Token] {
        &self.tokens
    }

    /// Their numbers in the vocabulary.
    pub fn ids(&self) -> Vec<u32> {
        self.tokens.iter().map(|token| token.id).collect()
    }

    /// The tokens that a part of the text is made of, where it first stands: what a baseline may keep.
    ///
    /// Errors: the part is empty, or not in the text; only special tokens stand there.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// let llm = CausalLm::load("pellucid/tiny-llama-facts")?;
    /// let prompt = llm.read("Nancy works as a farmer in Austin, Nevada.")?;
    /// let city: String = prompt.tokens()[prompt.span("Austin")?].iter().map(|token| token.text.as_str()).collect();
    /// assert_eq!(city.trim(), "Austin");
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn span(&self, part: &str) -> Result<Range<usize>> {
        span(&self.source, &self.tokens, part)
    }

    /// For each token, which text of a pair it belongs to.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// let bert = Bert::load("pellucid/tiny-bert-sentiment")?;
    /// let pair = bert.read_pair("I loved it.", "It was dull.")?;
    /// assert_eq!((pair.type_ids()[0], pair.type_ids()[pair.len() - 1]), (0, 1));
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn type_ids(&self) -> &[u32] {
        &self.type_ids
    }

    /// Which tokens may be attended to, if some may not.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// let bert = Bert::load("pellucid/tiny-bert-sentiment")?;
    /// let text = bert.read("I loved it.")?;
    /// assert_eq!(text.mask(), None);    // all may be attended to
    /// assert_eq!(bert.pad(text, 8)?.mask().unwrap()[6..], [false, false]);
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn mask(&self) -> Option<&[bool]> {
        self.mask.contains(&false).then_some(&self.mask)
    }

    /// The text with padding appended up to `len` tokens, hidden from attention.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// let bert = Bert::load("pellucid/tiny-bert-sentiment")?;
    /// let text = bert.read("I loved it.")?;
    /// let padded = text.clone().padded(8, bert.tokenizer().special("[PAD]")?);
    /// assert_eq!((padded.len(), padded.ids()[7]), (8, 0));
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn padded(mut self, len: usize, padding: Token) -> Self {
        let len = len.max(self.len());
        self.tokens.resize(len, padding);
        self.type_ids.resize(len, 0);
        self.mask.resize(len, false);
        self
    }
}

/// A text that follows a prompt: said by a model, or put into its mouth.
///
/// ```
/// # use pellucid::prelude::*;
/// let llm = CausalLm::load("pellucid/tiny-llama-facts")?;
/// let prompt = llm.read("Where is the lamp?")?;
/// let said = llm.continuation(&prompt, "The lamp is in the bedroom.")?;
/// assert_eq!((said.text(), said.prompt()), ("The lamp is in the bedroom.", &prompt));
/// assert_eq!(said.ids().len(), said.len());
/// # Ok::<(), pellucid::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Continuation {
    prompt: Text,
    text: String,
    tokens: Vec<Token>,
}

impl Continuation {
    /// What it follows.
    pub fn prompt(&self) -> &Text {
        &self.prompt
    }

    /// The text itself.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Its tokens; their places are counted from its own beginning.
    pub fn tokens(&self) -> &[Token] {
        &self.tokens
    }

    /// Their numbers in the vocabulary.
    pub fn ids(&self) -> Vec<u32> {
        self.tokens.iter().map(|token| token.id).collect()
    }

    /// How many tokens it has; at least one.
    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    /// Whether it has no tokens, which no continuation is made with.
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }

    /// The tokens that a part of the text is made of, where it first stands.
    ///
    /// Errors: the part is empty, or not in the text; only special tokens stand there.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// let llm = CausalLm::load("pellucid/tiny-llama-facts")?;
    /// let said = llm.continuation(&llm.read("Where is the lamp?")?, "The lamp is in the bedroom.")?;
    /// let place: String = said.tokens()[said.span("bedroom")?].iter().map(|token| token.text.as_str()).collect();
    /// assert_eq!(place.trim(), "bedroom");
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn span(&self, part: &str) -> Result<Range<usize>> {
        span(&self.text, &self.tokens, part)
    }

    /// The tokens of some of its characters, which may be left open at either end: `..12`, `40..`. A token that holds only some of
    /// them is in it.
    ///
    /// Errors: no characters; more than there are; only special tokens stand there.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// let llm = CausalLm::load("pellucid/tiny-llama-facts")?;
    /// let said = llm.continuation(&llm.read("Where is the lamp?")?, "The lamp is in the bedroom.")?;
    /// assert_eq!(said.characters(19..26)?, said.span("bedroom")?);
    /// assert_eq!(said.characters(..)?, 0..said.len());
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn characters(&self, characters: impl RangeBounds<usize>) -> Result<Range<usize>> {
        let count = self.text.chars().count();
        let start = match characters.start_bound() {
            Bound::Included(start) => *start,
            Bound::Excluded(before) => before.saturating_add(1),
            Bound::Unbounded => 0,
        };
        let end = match characters.end_bound() {
            Bound::Included(last) => last.saturating_add(1),
            Bound::Excluded(end) => *end,
            Bound::Unbounded => count,
        };
        if start >= end || end > count {
            return Err(Error::argument(format!(
                "characters {start}..{end} of an answer that has {count}: a span must lie within it and not be empty"
            )));
        }
        let byte = |character: usize| self.text.char_indices().nth(character).map_or(self.text.len(), |(byte, _)| byte);
        sharing(&self.text, &self.tokens, byte(start)..byte(end))
    }
}

impl std::fmt::Display for Continuation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

/// The tokens, special ones aside, that share a character with a part of their text.
fn span(text: &str, tokens: &[Token], part: &str) -> Result<Range<usize>> {
    let part = part.trim();
    let start = text.find(part).filter(|_| !part.is_empty());
    let start =
        start.ok_or_else(|| Error::argument(format!("the text does not say «{part}»; it says «{}»", text.trim())))?;
    sharing(text, tokens, start..start + part.len())
}

/// The tokens, special ones aside, that share a byte with a place in their text.
///
/// Errors: there are none.
fn sharing(text: &str, tokens: &[Token], place: Range<usize>) -> Result<Range<usize>> {
    let inside = |token: &Token| !token.special && token.start < place.end && token.end > place.start;
    let (first, last) = (tokens.iter().position(inside), tokens.iter().rposition(inside));
    let none = || Error::argument(format!("only special tokens stand where the text says «{}»", &text[place.clone()]));
    let (first, last) = first.zip(last).ok_or_else(none)?;
    Ok(first..last + 1)
}

/// What text is read after, where it matters that something stands before it.
const LINE: &str = "\n";

/// Turns text into tokens as the checkpoint's own tokenizer does, never padding and never cutting. Cheap to clone.
///
/// ```
/// # use pellucid::prelude::*;
/// let bert = Bert::load("pellucid/tiny-bert-sentiment")?;
/// let tokenizer = bert.tokenizer();
/// assert_eq!(tokenizer.piece(tokenizer.id("[MASK]")?)?, "[MASK]");
/// assert!(tokenizer.id("two words").is_err());
/// assert!(matches!(tokenizer.read(b"caf\xe9"), Err(Error::BadUtf8 { position: 3, byte: 0xe9 })));
/// # Ok::<(), pellucid::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Tokenizer {
    engine: Arc<Engine>,
    /// The ids of special tokens, wherever they stand.
    special: BTreeSet<u32>,
    /// Whether tokens are shown as the text has them: not so for WordPiece, whose `##` means something.
    as_in_text: bool,
}

impl Tokenizer {
    /// From a `tokenizer.json`.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// use pellucid::model::{Checkpoint, text::Tokenizer};
    /// let checkpoint = Checkpoint::open("pellucid/tiny-bert-sentiment", &Load::default())?;
    /// let tokenizer = Tokenizer::from_json(&checkpoint.file("tokenizer.json")?.unwrap())?;
    /// assert_eq!(tokenizer.read("I loved it.")?.tokens()[2].text, "loved");
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn from_json(json: &[u8]) -> Result<Self> {
        let engine = Engine::from_bytes(json).map_err(Error::argument)?;
        Ok(Self::unlimited(engine))
    }

    /// From BERT's older `vocab.txt`, one token per line: WordPiece, lower-casing if `lowercase`.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// use pellucid::model::text::Tokenizer;
    /// let vocab = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nun\n##seen\n";
    /// let tokens = Tokenizer::from_vocab(vocab.as_bytes(), true)?.read("Unseen")?;
    /// let tokens: Vec<&str> = tokens.tokens().iter().map(|token| token.text.as_str()).collect();
    /// assert_eq!(tokens, ["[CLS]", "un", "##seen", "[SEP]"]);
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn from_vocab(vocab: &[u8], lowercase: bool) -> Result<Self> {
        let vocab = WordPiece::read_bytes(vocab).map_err(Error::argument)?;
        let id = |token: &str| {
            let found = vocab.get(token).copied();
            found.ok_or_else(|| Error::argument(format!("the vocabulary has no `{token}`")))
        };
        let special = vec![("[CLS]", id("[CLS]")?), ("[SEP]", id("[SEP]")?)];
        let frame = TemplateProcessing::builder()
            .try_single("[CLS] $A [SEP]")
            .and_then(|b| b.try_pair("[CLS] $A [SEP] $B:1 [SEP]:1"))
            .map_err(Error::argument)?
            .special_tokens(special)
            .build()
            .map_err(Error::argument)?;
        let model = WordPiece::builder().vocab(vocab).unk_token("[UNK]".into()).build().map_err(Error::argument)?;
        let mut engine = Engine::new(model);
        let normalizer = BertNormalizer::new(true, true, None, lowercase);
        engine.with_normalizer(Some(normalizer)).map_err(Error::argument)?;
        engine.with_pre_tokenizer(Some(BertPreTokenizer)).with_post_processor(Some(frame));
        let marks = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"];
        let marks: Vec<_> = marks.iter().map(|mark| tokenizers::AddedToken::from(*mark, true)).collect();
        engine.add_special_tokens(marks).map_err(Error::argument)?;
        Ok(Self::unlimited(engine))
    }

    /// From an engine, whose limits are taken away.
    pub(super) fn unlimited(mut engine: Engine) -> Self {
        engine.with_padding(None);
        // Taking a limit away cannot fail: only setting one can.
        let _ = engine.with_truncation(None);
        let added = engine.get_added_tokens_decoder();
        let special = added.into_iter().filter(|(_, token)| token.special).map(|(id, _)| id).collect();
        let as_in_text = !matches!(engine.get_model(), ModelWrapper::WordPiece(_));
        Self { engine: Arc::new(engine), special, as_in_text }
    }

    /// A text, framed by the tokenizer's special tokens.
    ///
    /// Errors: bytes that are not UTF-8; nothing but special tokens.
    pub fn read(&self, text: impl AsRef<[u8]>) -> Result<Text> {
        let text = utf8(text.as_ref())?;
        let encoding = self.engine.encode(text, true).map_err(Error::argument)?;
        self.text(text.to_string(), &encoding, 0)
    }

    /// A text as it stands, in which special tokens may be written out: a conversation, as a chat template yields it.
    ///
    /// Errors: those of [`read`](Self::read).
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// let llm = CausalLm::load("pellucid/tiny-llama-facts")?;
    /// let tokens = llm.tokenizer().read_plain("<s>[INST] Hello [/INST]")?;
    /// assert!(tokens.tokens()[0].special && tokens.tokens()[0].text == "<s>");
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn read_plain(&self, text: impl AsRef<[u8]>) -> Result<Text> {
        let text = utf8(text.as_ref())?;
        let encoding = self.engine.encode(text, false).map_err(Error::argument)?;
        self.text(text.to_string(), &encoding, 0)
    }

    /// A text that follows a prompt.
    ///
    /// Errors: not UTF-8; empty; text that the vocabulary cannot express, so that the model could never have said it.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// let llm = CausalLm::load("pellucid/tiny-llama-facts")?;
    /// let prompt = llm.read("In her free time, she enjoys")?;
    /// let said = llm.tokenizer().continuation(&prompt, " painting")?;
    /// assert_eq!(said.to_string(), " painting");
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn continuation(&self, prompt: &Text, text: impl AsRef<[u8]>) -> Result<Continuation> {
        let text = utf8(text.as_ref())?;
        let (tokens, back) = match self.after_a_line(text)? {
            Some(tokens) => (tokens, text.to_string()),
            None => {
                let encoding = self.engine.encode(text, false).map_err(Error::argument)?;
                let back = self.engine.decode(encoding.get_ids(), false).map_err(Error::argument)?;
                (self.tokens(text, &encoding, 0), back)
            }
        };
        if tokens.is_empty() {
            return Err(Error::argument("the continuation is empty: there is nothing to explain"));
        }
        if back != text {
            return Err(Error::argument(format!(
                "this vocabulary cannot express «{text}»: read back, its tokens say «{back}», so the model could never have \
                 said it. Leave out what differs"
            )));
        }
        Ok(Continuation { prompt: prompt.clone(), text: text.to_string(), tokens })
    }

    /// The tokens of a text as they follow other text: some tokenizers put a space in front of whatever they read, so it is
    /// read after a line break, which is then left out. `None` if the text and the break grow together, or the tokens do not
    /// say the text.
    fn after_a_line(&self, text: &str) -> Result<Option<Vec<Token>>> {
        let read = |text: &str| self.engine.encode(text, false).map_err(Error::argument);
        let said = |ids: &[u32]| self.engine.decode(ids, false).map_err(Error::argument);
        let (line, both) = (read(LINE)?, read(&format!("{LINE}{text}"))?);
        let Some(ids) = both.get_ids().strip_prefix(line.get_ids()).filter(|_| !line.is_empty()) else {
            return Ok(None);
        };
        if ids.is_empty() || said(both.get_ids())? != said(line.get_ids())? + text {
            return Ok(None);
        }
        let mut tokens = self.tokens(&format!("{LINE}{text}"), &both, 0).split_off(line.len());
        for token in &mut tokens {
            (token.start, token.end) = (token.start.saturating_sub(LINE.len()), token.end.saturating_sub(LINE.len()));
        }
        number_words(text, &mut tokens);
        Ok(Some(tokens))
    }

    /// Tokens that follow a prompt, as text.
    ///
    /// Errors: no tokens.
    pub(crate) fn continuation_of(&self, prompt: &Text, ids: &[u32]) -> Result<Continuation> {
        if ids.is_empty() {
            return Err(Error::argument(
                "the model ends the text at once: there is no continuation to explain. Put one into its mouth with \
                 `continuation(&prompt, \"…\")`",
            ));
        }
        let line = self.engine.encode(LINE, false).map_err(Error::argument)?;
        let start = self.engine.decode(line.get_ids(), false).map_err(Error::argument)?;
        let said = |ids: &[u32]| {
            let all = self.engine.decode(&[line.get_ids(), ids].concat(), false).map_err(Error::argument)?;
            Ok::<_, Error>(all.strip_prefix(&start).map_or(all.clone(), str::to_owned))
        };
        let mut tokens: Vec<Token> = Vec::with_capacity(ids.len());
        let (mut text, mut whole) = (String::new(), 0);
        for (i, &id) in ids.iter().enumerate() {
            tokens.push(Token {
                text: "\u{fffd}".into(),
                id,
                start: text.len(),
                end: text.len(),
                word: None,
                special: false,
            });
            let longer = said(&ids[..=i])?;
            if longer.ends_with('\u{fffd}') {
                continue; // within a character, which later tokens will complete
            }
            let piece = longer.get(text.len()..).unwrap_or_default().to_string();
            spell(&mut tokens[whole..], &piece, text.len()..longer.len());
            (text, whole) = (longer, i + 1);
        }
        tokens.iter_mut().for_each(|token| token.special = self.special.contains(&token.id));
        number_words(&text, &mut tokens);
        Ok(Continuation { prompt: prompt.clone(), text, tokens })
    }

    /// A token as text: «Ġwork» as « work».
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// let llm = CausalLm::load("pellucid/tiny-llama-facts")?;
    /// assert_eq!(llm.tokenizer().piece(llm.tokenizer().id("Ġbedroom")?)?, " bedroom");
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn piece(&self, id: u32) -> Result<String> {
        let text = self.engine.decode(&[id], false).map_err(Error::argument)?;
        Ok(if text.is_empty() { self.engine.id_to_token(id).unwrap_or_default() } else { text })
    }

    /// Two texts in one sequence.
    ///
    /// Errors: those of [`read`](Self::read).
    pub fn read_pair(&self, first: impl AsRef<[u8]>, second: impl AsRef<[u8]>) -> Result<Text> {
        let (first, second) = (utf8(first.as_ref())?, utf8(second.as_ref())?);
        let encoding = self.engine.encode((first, second), true).map_err(Error::argument)?;
        self.text(format!("{first} {second}"), &encoding, first.len() + 1)
    }

    /// The number of a token: as the vocabulary spells it (`[MASK]`, `Ġthe`), or as text has it (` the`).
    ///
    /// Errors: it is no token, or text of several.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// let llm = CausalLm::load("pellucid/tiny-llama-facts")?;
    /// let tokenizer = llm.tokenizer();
    /// assert_eq!(tokenizer.id(" bedroom")?, tokenizer.id("Ġbedroom")?);    // as in text, or in the vocabulary
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn id(&self, token: &str) -> Result<u32> {
        if let Some(id) = self.engine.token_to_id(token) {
            return Ok(id);
        }
        let encoding = self.engine.encode(token, false).map_err(Error::argument)?;
        match encoding.get_ids() {
            [id] if self.engine.decode(&[*id], false).is_ok_and(|text| text == token) => Ok(*id),
            _ => Err(Error::argument(format!("the vocabulary has no token `{token}`"))),
        }
    }

    /// A token of the vocabulary by itself, as padding is.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// let bert = Bert::load("pellucid/tiny-bert-sentiment")?;
    /// let padding = bert.tokenizer().special("[PAD]")?;
    /// assert!(padding.special && padding.id == 0);
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn special(&self, token: &str) -> Result<Token> {
        Ok(Token { text: token.into(), id: self.id(token)?, start: 0, end: 0, word: None, special: true })
    }

    /// Tokens with their places; the second text of a pair starts `offset` bytes into the joined source.
    fn text(&self, source: String, encoding: &Encoding, offset: usize) -> Result<Text> {
        let tokens = self.tokens(&source, encoding, offset);
        match tokens.iter().all(|token| token.special && token.text != "[MASK]") {
            true => Err(Error::EmptyText),
            false => Ok(Text {
                source,
                type_ids: encoding.get_type_ids().to_vec(),
                mask: encoding.get_attention_mask().iter().map(|&seen| seen == 1).collect(),
                tokens,
            }),
        }
    }

    fn tokens(&self, source: &str, encoding: &Encoding, offset: usize) -> Vec<Token> {
        let sequences = encoding.get_sequence_ids();
        let token = |i: usize| {
            let id = encoding.get_ids()[i];
            let framed = encoding.get_special_tokens_mask()[i] == 1 || sequences[i].is_none();
            let (start, end) = encoding.get_offsets()[i];
            let shift = if sequences[i] == Some(1) { offset } else { 0 };
            let special = framed || self.special.contains(&id);
            let text = encoding.get_tokens()[i].clone();
            Token { text, id, start: start + shift, end: end + shift, word: None, special }
        };
        let mut tokens: Vec<_> = (0..encoding.len()).map(token).collect();
        if self.as_in_text {
            spell_as_in(source, &mut tokens);
        }
        number_words(source, &mut tokens);
        tokens
    }
}

/// Tokens that make a piece of text together: the first is shown as the piece, those that go on within its last character as
/// `…` and that character.
fn spell(tokens: &mut [Token], piece: &str, place: Range<usize>) {
    let last = piece.chars().last().map_or(String::new(), |letter| format!("…{letter}"));
    for (i, token) in tokens.iter_mut().enumerate() {
        (token.start, token.end) = (place.start, place.end);
        token.text = if i == 0 { piece.into() } else { last.clone() };
    }
}

/// Tokens shown as the text has them; one that begins within the character before begins with `…`.
fn spell_as_in(source: &str, tokens: &mut [Token]) {
    let mut before = 0;
    for token in tokens.iter_mut().filter(|token| !token.special) {
        let within = token.start < before;
        before = token.end;
        if let Some(spelling) = source.get(token.start..token.end).filter(|spelling| !spelling.is_empty()) {
            token.text = format!("{}{spelling}", if within { "…" } else { "" });
        }
    }
}

/// Words by Unicode's rules (UAX #29), whatever the tokenizer: a token belongs to the word its first letter is in.
fn number_words(source: &str, tokens: &mut [Token]) {
    let starts: Vec<usize> = source.split_word_bound_indices().map(|(start, _)| start).collect();
    for token in tokens.iter_mut().filter(|token| !token.special) {
        let word_at = |letter| starts.partition_point(|&start| start <= letter) as u32;
        token.word = token.first_letter(source).map(word_at);
    }
}

/// Errors if there are more tokens than a model has positions.
pub(crate) fn fit(tokens: usize, positions: usize) -> Result<()> {
    if tokens > positions { Err(Error::TextTooLong { tokens, positions }) } else { Ok(()) }
}

fn utf8(bytes: &[u8]) -> Result<&str> {
    std::str::from_utf8(bytes).map_err(|error| {
        let position = error.valid_up_to();
        Error::BadUtf8 { position, byte: bytes[position] }
    })
}
