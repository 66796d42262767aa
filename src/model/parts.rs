//! A prompt in parts that can be taken away: tokens, words, sentences, spans, or the fields of a template.

use std::ops::Range;

use candle_core::{DType, Device, Tensor};
use unicode_segmentation::UnicodeSegmentation;

use super::presence::presence;
use super::text::{Text, Token, Tokenizer};
use crate::ablation::Groups;
use crate::{Error, Result};

/// A prompt in parts, each of which can be there or not.
///
/// Which are there is a row of ones and zeros, `(s,)` for s parts. A function of such rows is explained like any other,
/// from [`none`](Self::none) to [`all`](Self::all): `feature_ablation`, `shapley_sampling`, `kernel_shap` and `lime` then
/// *remove* parts from the text. Something must be left of it: where a model's tokenizer puts no token in front, as
/// Qwen's does not, leave some words out of the parts ([`spans`](Self::spans)) or converse
/// ([`CausalLm::chat`](crate::model::CausalLm::chat)). To *replace* them instead, by a token or by zeros, give [`groups`](Self::groups) and a
/// baseline to the same methods over embeddings.
///
/// ```
/// # use pellucid::prelude::*;
/// let llm = CausalLm::load("pellucid/tiny-llama-facts")?;
/// let prompt = llm.read("Michael works as a software engineer in Austin, Texas. In his free time, he enjoys")?;
/// let said = llm.continuation(&prompt, " painting")?;
/// let parts = Parts::spans(&prompt, &["Michael", "software engineer", "Austin", "Texas"])?;
/// let f = |present: &Tensor| llm.log_probs_with(&parts, present, &said);
/// let drops = feature_ablation(f, &parts.all()?, &parts.none()?, &Groups::elements(&parts.all()?))?;
/// assert_eq!(drops.over_parts(&parts)?.top(1)[0].0, "software engineer");
/// # Ok::<(), pellucid::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Parts {
    source: String,
    tokens: Vec<Token>,
    made: Made,
}

#[derive(Clone, Debug, PartialEq)]
enum Made {
    /// For each token of the text, the part it belongs to; `None` stays.
    Cut { ids: Vec<u32>, part: Vec<Option<usize>> },
    /// Text between the fields, one piece more than there are fields; and what the fields may hold instead.
    Template { pieces: Vec<String>, fields: Vec<Field> },
}

/// A field of a template: its value, and what it may hold when the value is taken away.
///
/// ```
/// # use pellucid::prelude::*;
/// let llm = CausalLm::load("pellucid/tiny-llama-facts")?;
/// let fields = vec![Field::new("name", "Nancy").or("Michael").or("Sarah"), Field::new("city", "Austin").or("Denver")];
/// let parts = Parts::template("{name} works as a farmer in {city}, Nevada. In her free time, she enjoys", fields)?;
/// let said = llm.continuation(&llm.read(parts.source())?, " hiking")?;
/// let f = |present: &Tensor| llm.log_probs_with(&parts, present, &said);
/// let drops = feature_ablation(f, &parts.all()?, &parts.none()?, &Groups::elements(&parts.all()?))?.over_parts(&parts)?;
/// assert_eq!(drops.tokens()[1].text, "Austin");
/// # Ok::<(), pellucid::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    name: String,
    value: String,
    absent: Vec<String>,
}

impl Field {
    /// A named field; without its value it is empty, unless [`or`](Self::or) says what else it may be.
    pub fn new(name: &str, value: &str) -> Self {
        Self { name: name.into(), value: value.into(), absent: Vec::new() }
    }

    /// Without its value the field holds this. Called several times, the outcomes of all are averaged.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// let fields = vec![Field::new("name", "Nancy").or("Michael").or("Sarah")];    // two ways to be absent
    /// let parts = Parts::template("{name} likes to", fields)?;
    /// assert_eq!(parts.source(), "Nancy likes to");
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn or(mut self, absent: &str) -> Self {
        self.absent.push(absent.into());
        self
    }

    /// What it holds in version `which` of its absence; versions go round.
    fn without(&self, which: usize) -> &str {
        if self.absent.is_empty() { "" } else { &self.absent[which % self.absent.len()] }
    }
}

impl Parts {
    /// Every token that is not special by itself.
    ///
    /// Errors: none given.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// # let bert = Bert::load("pellucid/tiny-bert-sentiment")?;
    /// let text = bert.read("I loved it.")?;
    /// assert_eq!(Parts::tokens_of(&text)?.len(), text.len() - 2);    // without [CLS] and [SEP]
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn tokens_of(text: &Text) -> Result<Self> {
        let mut count = 0..;
        Self::cut(text, |token| if token.special { None } else { count.next() })
    }

    /// Words, by Unicode's rules; punctuation marks by themselves.
    ///
    /// Errors: there are none.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// # let bert = Bert::load("pellucid/tiny-bert-sentiment")?;
    /// let words = Parts::words(&bert.read("I adored it.")?)?;
    /// let words: Vec<&str> = words.tokens().iter().map(|word| word.text.as_str()).collect();
    /// assert_eq!(words, ["I", "adored", "it", "."]);
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn words(text: &Text) -> Result<Self> {
        Self::by_place(text, &text.source().split_word_bound_indices().collect::<Vec<_>>())
    }

    /// Sentences, by Unicode's rules.
    ///
    /// Errors: there are none.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// # let bert = Bert::load("pellucid/tiny-bert-sentiment")?;
    /// let sentences = Parts::sentences(&bert.read("I loved it. The end was dull.")?)?;
    /// assert_eq!(sentences.tokens()[1].text, "The end was dull.");
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn sentences(text: &Text) -> Result<Self> {
        Self::by_place(text, &text.source().split_sentence_bound_indices().collect::<Vec<_>>())
    }

    /// Spans of one's own: parts of the text as it spells them, each where it first stands after the one before. What is in
    /// none of them stays.
    ///
    /// Errors: none given; one that is not in the text, or in which no token begins.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// # let bert = Bert::load("pellucid/tiny-bert-sentiment")?;
    /// let text = bert.read("I loved the movie, but the end was dull.")?;
    /// let spans = Parts::spans(&text, &["loved the movie", "dull"])?;
    /// assert_eq!((spans.len(), spans.tokens()[1].text.as_str()), (2, "dull"));
    /// assert!(Parts::spans(&text, &["dull", "loved"]).is_err());    // in the text's order
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn spans(text: &Text, spans: &[&str]) -> Result<Self> {
        let (source, mut from) = (text.source(), 0);
        let mut places = Vec::with_capacity(spans.len());
        for span in spans.iter().map(|span| span.trim()) {
            let found = source[from..].find(span).filter(|_| !span.is_empty()).map(|at| from + at);
            let at = found.ok_or_else(|| Error::argument(format!("the text does not say «{span}» (any more)")))?;
            from = at + span.len();
            places.push((at, &source[at..from]));
        }
        let begins = |place: &(usize, &str)| text.tokens().iter().any(|token| begins_in(token, source, place));
        match places.iter().find(|place| !begins(place)) {
            Some((_, span)) => Err(Error::argument(format!(
                "no token begins in «{span}», which is within one: give the whole of the word it is in"
            ))),
            None => Self::by_place(text, &places),
        }
    }

    /// A text with fields in braces: `"{name} lives in {city}."`.
    ///
    /// Errors: no fields; a field in braces that is not given, or one given that is not in braces.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// let fields = vec![Field::new("name", "Nancy"), Field::new("city", "Austin")];
    /// let parts = Parts::template("{name} lives in {city}.", fields.clone())?;
    /// assert_eq!((parts.source(), parts.len()), ("Nancy lives in Austin.", 2));
    /// assert!(Parts::template("{name} lives there.", fields).is_err());    // where is the city?
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn template(template: &str, fields: Vec<Field>) -> Result<Self> {
        let (mut pieces, mut used, mut rest) = (Vec::new(), Vec::new(), template);
        while let Some((before, after)) = rest.split_once('{') {
            let (name, after) = after.split_once('}').ok_or_else(|| Error::argument("a `{` without its `}`"))?;
            let unknown = || Error::argument(format!("the template has a field `{{{name}}}`, which is not given"));
            used.push(fields.iter().find(|field| field.name == name).cloned().ok_or_else(unknown)?);
            pieces.push(before.to_string());
            rest = after;
        }
        pieces.push(rest.to_string());
        if let Some(field) = fields.iter().find(|field| !used.contains(field)) {
            return Err(Error::argument(format!("the template has no `{{{}}}`", field.name)));
        }
        let values: Vec<&str> = used.iter().map(|field| field.value.as_str()).collect();
        let source = fill(&pieces, &values);
        let mut at = 0;
        let token = |(piece, field): (&String, &Field)| {
            let start = at + piece.len();
            at = start + field.value.len();
            part(field.value.clone(), start..at)
        };
        let tokens: Vec<Token> = pieces.iter().zip(&used).map(token).collect();
        Self { source, tokens, made: Made::Template { pieces, fields: used } }.some()
    }

    /// Tokens belong to the place that the first letter of theirs is in.
    fn by_place(text: &Text, places: &[(usize, &str)]) -> Result<Self> {
        let mut numbers = std::collections::BTreeMap::new();
        Self::cut(text, |token| {
            let place = places.iter().position(|place| begins_in(token, text.source(), place))?;
            let next = numbers.len();
            Some(*numbers.entry(place).or_insert(next))
        })
    }

    fn cut(text: &Text, mut part_of: impl FnMut(&Token) -> Option<usize>) -> Result<Self> {
        let of: Vec<Option<usize>> = text.tokens().iter().map(&mut part_of).collect();
        let mut tokens: Vec<Token> = Vec::new();
        for (token, of) in text.tokens().iter().zip(&of) {
            match of {
                Some(of) if *of < tokens.len() => tokens[*of].absorb(token, text.source()),
                Some(_) => tokens.push(token.as_word(text.source())),
                None => (),
            }
        }
        Self { source: text.source().into(), tokens, made: Made::Cut { ids: text.ids(), part: of } }.some()
    }

    fn some(self) -> Result<Self> {
        match self.tokens.is_empty() {
            true => Err(Error::argument("the prompt has no such parts")),
            false => Ok(self),
        }
    }

    /// The whole text.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The parts, with their places in the text.
    pub fn tokens(&self) -> &[Token] {
        &self.tokens
    }

    /// How many parts there are; at least one.
    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    /// Whether there are none, which cannot be made.
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }

    /// `(s,)`: every part is there.
    pub fn all(&self) -> Result<Tensor> {
        Ok(Tensor::ones(self.len(), DType::F64, &Device::Cpu)?)
    }

    /// `(s,)`: no part is there.
    pub fn none(&self) -> Result<Tensor> {
        Ok(Tensor::zeros(self.len(), DType::F64, &Device::Cpu)?)
    }

    /// The parts as groups of the rows of embeddings x `(t,c)`.
    ///
    /// Errors: x has not a row for each token; the parts are fields of a template, which have no tokens of their own.
    ///
    /// ```
    /// # use pellucid::prelude::*;
    /// let llm = CausalLm::load("pellucid/tiny-llama-facts")?;
    /// let prompt = llm.read("Nancy works as a farmer in Austin, Nevada. In her free time, she enjoys")?;
    /// let parts = Parts::spans(&prompt, &["farmer", "Austin"])?;
    /// let (x, said) = (llm.embed(&prompt)?, llm.generate(&prompt, &Sampling::greedy(1))?);
    /// let mean = llm.baseline(&prompt, &Baseline::mean())?;
    /// let drops = feature_ablation(|x| Ok(llm.log_probs(&said, x)?.sum(1)?), &x, &mean, &parts.groups(&x)?)?;
    /// assert_eq!(drops.over_parts(&parts)?.top(1)[0].0, "farmer");    // the profession decides
    /// # Ok::<(), pellucid::Error>(())
    /// ```
    pub fn groups(&self, x: &Tensor) -> Result<Groups> {
        let Made::Cut { part, .. } = &self.made else {
            return Err(Error::argument("the fields of a template are text: explain `log_probs_with` instead"));
        };
        if x.rank() != 2 || x.dims()[0] != part.len() {
            return Err(Error::shape("the embeddings", format!("({}, c), the text's", part.len()), x.dims()));
        }
        let rows = |which: usize| (0..part.len()).filter(|&i| part[i] == Some(which)).collect();
        Ok(Groups::of_rows(x, &(0..self.len()).map(rows).collect::<Vec<_>>()))
    }

    /// In how many ways the parts can be absent.
    pub(crate) fn versions(&self) -> usize {
        match &self.made {
            Made::Cut { .. } => 1,
            Made::Template { fields, .. } => fields.iter().map(|field| field.absent.len()).max().unwrap_or(1).max(1),
        }
    }

    /// The token ids of what is left where `present` `(n,s)` has zeros: n prompts, in every version of absence in turn.
    pub(crate) fn prompts(&self, present: &Tensor, tokenizer: &Tokenizer) -> Result<Vec<Vec<u32>>> {
        let rows = presence(present, self.len())?;
        let prompts = rows.iter().flat_map(|row| (0..self.versions()).map(move |version| (row, version)));
        prompts.map(|(row, version)| self.prompt(row, version, tokenizer)).collect()
    }

    fn prompt(&self, present: &[bool], version: usize, tokenizer: &Tokenizer) -> Result<Vec<u32>> {
        match &self.made {
            Made::Cut { ids, part } => {
                let stays = |(_, part): &(&u32, &Option<usize>)| part.is_none_or(|part| present[part]);
                Ok(ids.iter().zip(part).filter(stays).map(|(id, _)| *id).collect())
            }
            Made::Template { pieces, fields } => {
                let value = |(field, &there): (&Field, &bool)| match there {
                    true => field.value.clone(),
                    false => field.without(version).to_string(),
                };
                let values: Vec<String> = fields.iter().zip(present).map(value).collect();
                Ok(tokenizer.read(fill(pieces, &values))?.ids())
            }
        }
    }
}

/// Whether a token's first letter is in a place of its text; no special token's is.
fn begins_in(token: &Token, source: &str, (at, place): &(usize, &str)) -> bool {
    let letter = token.first_letter(source).filter(|_| !token.special);
    letter.is_some_and(|letter| (*at..at + place.len()).contains(&letter))
}

/// The pieces with a value between each two of them.
fn fill(pieces: &[String], values: &[impl AsRef<str>]) -> String {
    let values = values.iter().map(AsRef::as_ref).chain([""]);
    pieces.iter().zip(values).flat_map(|(piece, value)| [piece.as_str(), value]).collect()
}

/// A part of a text, as a token of its own.
pub(crate) fn part(text: String, place: Range<usize>) -> Token {
    Token { text, id: 0, start: place.start, end: place.end, word: None, special: false }
}
