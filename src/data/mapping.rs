//! The template that a recipe gives itself: Jinja texts with a record's fields as variables. It
//! words a question with its answer, or a conversation.

use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Enumerator, Object, Serde};
use minijinja::{AutoEscape, Environment, ErrorKind, UndefinedBehavior, escape_formatter};
use serde_json::{Map, Value};

use crate::data::chat::{self, FUEL};
use crate::data::formats::loose::what_within;
use crate::data::formats::{Unused, messages};
use crate::data::item::{Chat, Instruction, Item, Row};
use crate::data::jinja;
use crate::data::published::{Found, Published, cleaned};
use crate::data::rows::{no_column, plain};
use crate::error::{bail, error};

/// Turns a record into a prompt with its answer and choices.
pub struct Mapping {
    environment: Environment<'static>,
    /// The texts as given, by name: `prompt`, `answer`, `choices.NAME`.
    texts: Vec<(String, String)>,
    /// Values of the label column, each with a text of its own.
    names: Vec<String>,
    label: Option<String>,
    target: Option<String>,
    answered: bool,
    talk: Option<ChatWording>,
    /// A wording that has a name; it says what the choices are.
    published: Option<&'static Published>,
    ended: bool,
}

/// What the texts make of a conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ChatWording {
    /// A JSON list of messages, which the model's own chat template words.
    Messages,
    /// The whole text; what stands in `{% generation %}` blocks is learnt.
    Text,
}

/// What every record can be called in a text, whatever its fields' names.
const ROW: &str = "row";

/// The second text of a pair.
const PAIR: &str = "pair";

/// What each prompt begins with.
const DESCRIPTION: &str = "description";

/// Faults of a text, whatever the record.
const UNKNOWN: [ErrorKind; 4] = [
    ErrorKind::UnknownFilter,
    ErrorKind::UnknownTest,
    ErrorKind::UnknownFunction,
    ErrorKind::UnknownMethod,
];

impl Mapping {
    /// Compiles the texts. `choices` are texts by the value that stands for them in the column
    /// `label`; `target` is a column with the number that the choices, named by numbers, estimate.
    /// `answer` is what is trained; without it, the right choice.
    ///
    /// Errors (class usage): a text that is no Jinja, with its line; what does not go together.
    pub fn new(
        prompt: &str,
        answer: Option<&str>,
        choices: Vec<(String, String)>,
        label: Option<&str>,
        target: Option<&str>,
    ) -> Result<Self> {
        complete(answer, &choices, label, target)?;
        well_named(&choices, target)?;
        let mut environment = environment()?;
        let mut texts = vec![("prompt".to_owned(), prompt.to_owned())];
        texts.extend(answer.map(|answer| ("answer".to_owned(), answer.to_owned())));
        texts.extend(choices.iter().map(|(name, text)| (format!("choices.{name}"), text.clone())));
        texts.iter().try_for_each(|(name, text)| compile(&mut environment, name, text.clone()))?;
        Ok(Self {
            names: choices.into_iter().map(|(name, _)| name).collect(),
            label: label.map(str::to_owned),
            target: target.map(str::to_owned),
            answered: answer.is_some(),
            ..Self::bare(environment, texts)
        })
    }

    /// With a second text, which a model with a head reads beside `prompt`. Errors (class usage): a
    /// text that is no Jinja, with its line.
    pub fn with_pair(mut self, pair: &str) -> Result<Self> {
        compile(&mut self.environment, PAIR, pair.to_owned())?;
        self.texts.push((PAIR.to_owned(), pair.to_owned()));
        Ok(self)
    }

    /// With a text that each prompt begins with, before solved examples. Errors (class usage): a
    /// text that is no Jinja, with its line.
    pub fn with_description(mut self, description: &str) -> Result<Self> {
        compile(&mut self.environment, DESCRIPTION, description.to_owned())?;
        self.texts.push((DESCRIPTION.to_owned(), description.to_owned()));
        Ok(self)
    }

    /// With the token that ends sequences learnt behind the answer, or not.
    pub fn ended(self, ended: bool) -> Self {
        Self { ended, ..self }
    }

    /// A wording that has a name. Errors: none but those of its texts.
    pub fn published(published: &'static Published) -> Result<Self> {
        let mut environment = environment()?;
        environment.add_filter("cleaned", |text: String| cleaned(&text));
        let texts = vec![("prompt".to_owned(), published.prompt.to_owned())];
        compile(&mut environment, "prompt", published.prompt.to_owned())?;
        let out = Self { published: Some(published), ..Self::bare(environment, texts) };
        if published.description.is_empty() {
            return Ok(out);
        }
        out.with_description(published.description)
    }

    /// The wording that it is, where that has a name.
    pub fn known(&self) -> Option<&'static Published> {
        self.published
    }

    /// A conversation by its messages: `messages` makes a JSON list of them, and `tools` one of
    /// JSON schemas; the model's own chat template words them. Errors (class usage): a text that is
    /// no Jinja, with its line.
    pub fn messages(messages: &str, tools: Option<&str>) -> Result<Self> {
        let mut environment = environment()?;
        jinja::json(&mut environment);
        let mut texts = vec![("messages".to_owned(), messages.to_owned())];
        texts.extend(tools.map(|tools| ("tools".to_owned(), tools.to_owned())));
        texts.iter().try_for_each(|(name, text)| compile(&mut environment, name, text.clone()))?;
        Ok(Self { talk: Some(ChatWording::Messages), ..Self::bare(environment, texts) })
    }

    /// A conversation, or anything else, by its whole text; what stands in `{% generation %}`
    /// blocks is learnt. Errors (class usage): a text that is no Jinja, with its line, or that has
    /// no such block.
    pub fn whole(text: &str) -> Result<Self> {
        let mut environment = environment()?;
        jinja::json(&mut environment);
        chat::mark_generation(&mut environment);
        let [plain, marked] = chat::generation_tags(text)?;
        if plain == marked {
            bail!(
                Usage,
                "option `text` of `template` has no `{{% generation %}}` block, which holds what \
                 is learnt";
                hint: "`{{% generation %}}{{{{ answer }}}}{{% endgeneration %}}`, around each \
                       answer"
            );
        }
        compile(&mut environment, "text", marked)?;
        let texts = vec![("text".to_owned(), text.to_owned())];
        Ok(Self { talk: Some(ChatWording::Text), ..Self::bare(environment, texts) })
    }

    /// Texts without choices.
    fn bare(environment: Environment<'static>, texts: Vec<(String, String)>) -> Self {
        let (names, label, target, talk, published) = Default::default();
        let (answered, ended) = (true, true);
        Self { environment, texts, names, label, target, answered, talk, published, ended }
    }

    /// Whether its items are worded by the model's own chat template.
    pub fn asks_chat(&self) -> bool {
        self.talk == Some(ChatWording::Messages)
    }

    /// What the record becomes: an instruction, or a conversation. Errors as those of
    /// [`Self::apply`].
    pub fn item(&self, row: &Row) -> Result<Item> {
        match self.talk {
            None if let Some(published) = self.published => {
                self.by_name(published, row).map(Item::Instruction)
            }
            None => self.apply(row).map(Item::Instruction),
            Some(ChatWording::Messages) => self.chat(row).map(Item::Chat),
            Some(ChatWording::Text) => {
                let worded = Some(chat::by_marks(&self.renderer(row)("text")?));
                let chat = Chat::new(row.place.clone(), vec![]);
                Ok(Item::Chat(Chat { worded, ended: self.ended, ..chat }))
            }
        }
    }

    /// What a wording that has a name makes of a record.
    fn by_name(&self, published: &Published, row: &Row) -> Result<Instruction> {
        let row = &published.prepared(row)?;
        let render = self.renderer(row);
        let prompt = render("prompt")?;
        let Found { given, choices, names, label } = published.found(row)?;
        let answer = label.map_or(String::new(), |label| {
            format!("{}{}", given.get(label).map_or("", String::as_str), choices[label])
        });
        let subject = row.fields.get("subject").and_then(Value::as_str);
        let subject = subject.filter(|_| published.is_mmlu()).map(str::to_owned);
        let description = self.description(&render)?;
        let item = Instruction::new(row.place.clone(), prompt, answer);
        Ok(Instruction { given, choices, names, label, subject, description, ..item })
    }

    /// What the prompt begins with.
    fn description(&self, render: &impl Fn(&str) -> Result<String>) -> Result<String> {
        let given = self.texts.iter().any(|(name, _)| name == DESCRIPTION);
        if given { render(DESCRIPTION) } else { Ok(String::new()) }
    }

    /// The conversation whose messages and tools the texts make.
    fn chat(&self, row: &Row) -> Result<Chat> {
        let render = self.renderer(row);
        let place = &row.place;
        let json = |name: &str| -> Result<Value> {
            let text = render(name)?;
            serde_json::from_str(&text).map_err(|e| {
                let error = error!(Data, "{place}: `{name}` of the template makes no JSON: {e}");
                error.hint("`{{ column | tojson }}` writes a list or a text as JSON").into()
            })
        };
        let list = json("messages")?;
        let list = messages::messages(place, "messages", list, true, &mut Unused::default())?;
        let has_tools = self.texts.iter().any(|(name, _)| name == "tools");
        let tools = if has_tools { json("tools")? } else { Value::Null };
        Ok(Chat { tools: messages::tools(place, tools)?, ..Chat::new(place.clone(), list) })
    }

    /// What the record becomes.
    ///
    /// Errors (class data): a column that is not there or null, a label among no choices, a target
    /// that is no number, each with file and row. Class usage: a text that cannot be made of any
    /// record.
    pub fn apply(&self, row: &Row) -> Result<Instruction> {
        self.check_columns(row)?;
        let render = self.renderer(row);
        let target = self.target.as_ref().map(|column| number(row, column)).transpose()?;
        let label = match (&self.label, target) {
            (Some(column), _) => Some(self.labelled(row, column)?),
            (None, Some(target)) if !self.names.is_empty() => Some(self.nearest(target)),
            (None, _) => None,
        };
        let choices = self
            .names
            .iter()
            .map(|name| render(&format!("choices.{name}")))
            .collect::<Result<Vec<_>>>()?;
        let answer_text = match label {
            _ if self.answered => render("answer")?,
            Some(label) => choices[label].clone(),
            None => String::new(),
        };
        let names = self.names.clone();
        let has_pair = self.texts.iter().any(|(name, _)| name == PAIR);
        let pair = if has_pair { Some(render(PAIR)?) } else { None };
        let (description, ended) = (self.description(&render)?, self.ended);
        let item = Instruction::new(row.place.clone(), render("prompt")?, answer_text);
        Ok(Instruction { pair, choices, names, label, target, description, ended, ..item })
    }

    /// Errors (class data) where the column of the label or the target is not there, or holds what
    /// no text can be made of.
    fn check_columns(&self, row: &Row) -> Result<()> {
        let columns = || self.label.iter().chain(&self.target);
        if let Some(column) = columns().find(|column| !row.fields.contains_key(*column)) {
            return Err(no_column(row, column));
        }
        let unusable_in =
            |column: &String| Some(unusable(row, column, what_within(&row.fields[column])?));
        columns().find_map(unusable_in).map_or(Ok(()), Err)
    }

    /// Makes the texts, by name, of a record.
    fn renderer<'a>(&'a self, row: &'a Row) -> impl Fn(&str) -> Result<String> + 'a {
        let fields = Arc::new(RowFields {
            fields: row.fields.clone(),
            missed: Mutex::default(),
            null: Mutex::default(),
            unusable: Mutex::default(),
        });
        let context = minijinja::Value::from_object(RowVariables(fields.clone()));
        move |name: &str| {
            let rendered =
                self.environment.get_template(name).and_then(|template| template.render(&context));
            // A text may have gone another way because of it.
            if let Some(column) = last(&fields.unusable) {
                return Err(unusable(
                    row,
                    &column,
                    what_within(&row.fields[&column]).unwrap_or_default(),
                ));
            }
            rendered.map_err(|e| self.fault(row, name, &fields, &e))
        }
    }

    /// Why the text called `name` could not be made.
    fn fault(
        &self,
        row: &Row,
        name: &str,
        fields: &RowFields,
        e: &minijinja::Error,
    ) -> anyhow::Error {
        let function = |name: &str| self.environment.globals().any(|(global, _)| global == name);
        let place = &row.place;
        if e.kind() == ErrorKind::UndefinedError
            && let Some(column) = last(&fields.missed).filter(|column| !function(column))
        {
            return no_column(row, &column);
        }
        match last(&fields.null) {
            Some(column) if e.detail().is_some_and(|detail| detail.starts_with("null ")) => error!(
                Data,
                "{place}: column `{column}` is null, which `{name}` of the template cannot \
                 write";
                hint: "`{{{{ {column} or '' }}}}` writes nothing in its place"
            )
            .into(),
            _ if UNKNOWN.contains(&e.kind()) => {
                error!(Usage, "option `{name}` of `template`: {}", reason(e)).into()
            }
            _ => error!(Data, "{place}: `{name}` of the template cannot be made: {}", reason(e))
                .into(),
        }
    }

    /// The choice that the label column names.
    fn labelled(&self, row: &Row, column: &str) -> Result<usize> {
        let value = plain(&row.fields[column]);
        match self.names.iter().position(|name| *name == value.trim()) {
            Some(label) => Ok(label),
            None => {
                let names: Vec<String> =
                    self.names.iter().map(|name| format!("`{name}`")).collect();
                Err(error!(
                    Data,
                    "{}: the label `{value}` in column `{column}` is none of the choices",
                    row.place;
                    hint: "the choices are {}",
                    names.join(", ")
                )
                .into())
            }
        }
    }

    /// The choice whose number is nearest, the first of equals.
    fn nearest(&self, target: f64) -> usize {
        let distance = |i: usize| {
            (self.names[i].trim().parse::<f64>().unwrap_or(f64::INFINITY) - target).abs()
        };
        (1..self.names.len()).fold(0, |best, i| if distance(i) < distance(best) { i } else { best })
    }

    /// The texts, for keeping with a model.
    pub fn text(&self) -> Value {
        if let Some(published) = self.published {
            return published.text();
        }
        let mut out: Map<String, Value> =
            self.texts.iter().map(|(name, text)| (name.clone(), text.clone().into())).collect();
        out.extend(self.label.as_ref().map(|label| ("label".into(), label.clone().into())));
        out.extend(self.target.as_ref().map(|target| ("target".into(), target.clone().into())));
        if !self.ended {
            out.insert("eos".into(), false.into());
        }
        Value::Object(out)
    }
}

/// Errors (class usage) where an option is given without one that it needs.
fn complete(
    answer: Option<&str>,
    choices: &[(String, String)],
    label: Option<&str>,
    target: Option<&str>,
) -> Result<()> {
    let chosen_by = label.or(target);
    match (choices, chosen_by, answer) {
        // A number for a head.
        ([], _, None) if target.is_some() && label.is_none() => Ok(()),
        ([], _, None) => bail!(
            Usage,
            "option `answer` of `template` is needed where there are no `choices`: it is what is \
             trained"
        ),
        ([], Some(_), _) => {
            bail!(Usage, "options `label` and `target` of `template` need `choices`")
        }
        ([_, ..], None, _) => bail!(
            Usage,
            "option `label` of `template` is needed beside `choices`: the column that says which \
             is right"
        ),
        _ => Ok(()),
    }
}

/// Errors (class usage) where the choices of a target are not named by numbers, or two have one
/// name.
fn well_named(choices: &[(String, String)], target: Option<&str>) -> Result<()> {
    let no_number = |(name, _): &&(String, String)| name.trim().parse::<f64>().is_err();
    if target.is_some()
        && let Some((name, _)) = choices.iter().find(no_number)
    {
        bail!(
            Usage,
            "the choices of a `target` are named by the numbers they stand for; `{name}` is none"
        );
    }
    if let Some((name, _)) = choices
        .iter()
        .enumerate()
        .find_map(|(i, c)| choices[..i].iter().find(|other| other.0 == c.0))
    {
        bail!(Usage, "option `choices` of `template` has `{name}` twice");
    }
    Ok(())
}

/// What compiles the texts of a recipe.
fn environment() -> Result<Environment<'static>> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    environment.set_fuel(Some(FUEL));
    let syntax = SyntaxConfig::builder().keep_trailing_newline(true).build();
    environment.set_syntax(syntax.map_err(|e| error!(Run, "templates cannot be set up: {e}"))?);
    environment.set_formatter(|out, state, value| match value.is_none() {
        true => Err(minijinja::Error::new(ErrorKind::InvalidOperation, "null cannot be written")),
        false => escape_formatter(out, state, value),
    });
    Ok(environment)
}

fn compile(environment: &mut Environment, name: &str, text: String) -> Result<()> {
    environment.add_template_owned(name.to_owned(), text).map_err(|e| {
        let error = error!(
            Usage,
            "option `{name}` of `template`, line {}: {}",
            e.line().unwrap_or(1),
            reason(&e)
        );
        error.hint("fields of a record are written `{{ name }}`").into()
    })
}

/// A record's fields, and the last that were asked for in vain, held null or what no text can be
/// made of: what an error is about.
#[derive(Debug)]
struct RowFields {
    fields: Map<String, Value>,
    missed: Mutex<Option<String>>,
    null: Mutex<Option<String>>,
    unusable: Mutex<Option<String>>,
}

impl Object for RowFields {
    fn get_value(self: &Arc<Self>, key: &minijinja::Value) -> Option<minijinja::Value> {
        let name = key.as_str()?;
        let value = self.fields.get(name);
        let note = match value {
            None => &self.missed,
            Some(Value::Null) => &self.null,
            Some(value) if what_within(value).is_some() => &self.unusable,
            Some(_) => return value.map(|value| minijinja::Value::from(Serde(value))),
        };
        *note.lock().unwrap_or_else(PoisonError::into_inner) = Some(name.to_owned());
        value.map(|_| ().into())
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Values(self.fields.keys().map(minijinja::Value::from).collect())
    }
}

/// The variables of a text: a record's fields, and the record itself.
#[derive(Debug)]
struct RowVariables(Arc<RowFields>);

impl Object for RowVariables {
    fn get_value(self: &Arc<Self>, key: &minijinja::Value) -> Option<minijinja::Value> {
        if key.as_str() == Some(ROW) {
            Some(minijinja::Value::from_dyn_object(self.0.clone()))
        } else {
            self.0.get_value(key)
        }
    }
}

fn last(note: &Mutex<Option<String>>) -> Option<String> {
    note.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

fn unusable(row: &Row, column: &str, what: &str) -> anyhow::Error {
    error!(Data, "{}: column `{column}` holds {what}", row.place).into()
}

fn number(row: &Row, column: &str) -> Result<f64> {
    let value = plain(&row.fields[column]);
    match value.trim().parse::<f64>() {
        Ok(number) if number.is_finite() => Ok(number),
        _ => bail!(Data, "{}: column `{column}` holds `{value}`, expected a number", row.place),
    }
}

/// What minijinja says, without the place that it adds.
fn reason(error: &minijinja::Error) -> String {
    match error.detail() {
        Some(detail) => format!("{}: {detail}", error.kind()),
        None => error.kind().to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use serde_json::json;

    use super::*;
    use crate::data::item::ItemPlace;
    use crate::error::{Class, class_of, hint_of};

    fn row(fields: Value) -> Row {
        let place = ItemPlace { file: Arc::from(Path::new("dev.tsv")), unit: "line", number: 7 };
        Row { place, fields: fields.as_object().unwrap().clone() }
    }

    fn choices(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect()
    }

    /// A template whose answer says nothing of the record.
    fn prompt(text: &str) -> Mapping {
        Mapping::new(text, Some("x"), vec![], None, None).unwrap()
    }

    #[test]
    fn a_record_becomes_prompt_choices_and_answer() {
        let sst = choices(&[("0", " negative"), ("1", " positive")]);
        let mapping =
            Mapping::new("Review: {{ sentence }}\nSentiment:", None, sst, Some("label"), None)
                .unwrap();
        let item =
            mapping.apply(&row(json!({ "label": "1", "sentence": "a {{ joy }} <b>" }))).unwrap();
        assert_eq!(item.instruction, "Review: a {{ joy }} <b>\nSentiment:");
        assert_eq!(
            (item.label, item.answer_text.as_str(), item.names.as_slice()),
            (Some(1), " positive", &["0".into(), "1".into()][..])
        );
        // Choices with words of the record, columns without names, numbers as labels.
        let mmlu = choices(&[("A", " {{ row['2'] }}"), ("B", " {{ row['3'] }}")]);
        let mapping = Mapping::new("{{ row['1'] }}\n", None, mmlu, Some("6"), None).unwrap();
        let item = mapping.apply(&row(json!({ "1": "q?", "2": "x", "3": "y", "6": "B" }))).unwrap();
        assert_eq!(
            (item.instruction.as_str(), item.choices, item.label),
            ("q?\n", vec![" x".to_owned(), " y".into()], Some(1))
        );
        let mapping = Mapping::new("{{ a }}", Some(" {{ b }}"), vec![], None, None).unwrap();
        let item = mapping.apply(&row(json!({ "a": 1, "b": 2.5 }))).unwrap();
        assert_eq!(
            (item.instruction.as_str(), item.answer_text.as_str(), item.label),
            ("1", " 2.5", None)
        );
    }

    #[test]
    fn a_text_that_does_not_end_is_refused() {
        for text in [
            "{% for i in range(99999) %}{% for j in range(99999) %}x{% endfor %}{% endfor %}",
            "{{ 'x' * 999999999 }}",
        ] {
            let error = prompt(text).apply(&row(json!({ "a": "1" }))).unwrap_err();
            assert!(
                error
                    .to_string()
                    .starts_with("`dev.tsv` line 7: `prompt` of the template cannot be made: "),
                "{error}"
            );
        }
    }

    #[test]
    fn a_null_is_not_written_as_a_word() {
        let null = row(json!({ "a": null, "b": "1" }));
        let error = prompt("{{ b }} {{ a }}").apply(&null).unwrap_err();
        assert_eq!(
            error.to_string(),
            "`dev.tsv` line 7: column `a` is null, which `prompt` of the template cannot write"
        );
        assert_eq!(
            (class_of(&error), hint_of(&error)),
            (Class::Data, Some("`{{ a or '' }}` writes nothing in its place"))
        );
        assert_eq!(prompt("{{ b }} {{ a or '' }}").apply(&null).unwrap().instruction, "1 ");
    }

    #[test]
    fn a_target_takes_the_nearest_choice() {
        let mapping = Mapping::new(
            "{{ s }}",
            None,
            choices(&[("1", " 1"), ("2", " 2"), ("3", " 3")]),
            None,
            Some("score"),
        )
        .unwrap();
        let item = |score: &str| mapping.apply(&row(json!({ "s": "x", "score": score })));
        assert_eq!(item("2.6").unwrap().label, Some(2));
        assert_eq!((item("1.5").unwrap().label, item("1.5").unwrap().target), (Some(0), Some(1.5)));
        assert_eq!(
            item("high").unwrap_err().to_string(),
            "`dev.tsv` line 7: column `score` holds `high`, expected a number"
        );
    }

    #[test]
    fn a_column_that_is_not_there_is_named() {
        let missed = "`dev.tsv` line 7 has no column `sentense`; did you mean `sentence`?";
        let sst = choices(&[("0", " negative"), ("1", " positive")]);
        let mapping = Mapping::new("{{ sentense }}", None, sst, Some("label"), None).unwrap();
        let error = mapping.apply(&row(json!({ "label": "1", "sentence": "a" }))).unwrap_err();
        assert_eq!(error.to_string(), missed);
        assert_eq!(
            (hint_of(&error), class_of(&error)),
            (Some("its columns are `label`, `sentence`"), Class::Data)
        );
        for text in ["{{ row['sentense'] }}", "{{ row.sentense }}", "{% if sentense %}x{% endif %}"]
        {
            let error = prompt(text).apply(&row(json!({ "sentence": "a" }))).unwrap_err();
            assert_eq!(error.to_string(), missed, "{text}");
        }
        let optional = prompt("{{ title if title is defined }}.");
        assert_eq!(optional.apply(&row(json!({ "a": 1 }))).unwrap().instruction, ".");
    }

    #[test]
    fn a_label_among_no_choices_is_named() {
        let sst = choices(&[("0", " negative"), ("1", " positive")]);
        let mapping = Mapping::new("{{ sentence }}", None, sst, Some("label"), None).unwrap();
        let error = mapping.apply(&row(json!({ "label": 2, "sentence": "a" }))).unwrap_err();
        assert_eq!(
            error.to_string(),
            "`dev.tsv` line 7: the label `2` in column `label` is none of the choices"
        );
        assert_eq!(hint_of(&error), Some("the choices are `0`, `1`"));
    }

    #[test]
    fn what_json_does_not_have_is_named_where_it_is_used() {
        let read = crate::data::formats::parse(
            Path::new("a.jsonl"),
            b"{\"score\": [NaN], \"a\": 1}",
            &crate::data::Layout { rows: true, ..Default::default() },
        );
        let Item::Row(row) = &read.unwrap()[0] else { panic!() };
        for text in
            ["{{ row.score }}", "{{ score or '' }}", "{{ score is defined }}", "{{ row | tojson }}"]
        {
            let error = prompt(text).apply(row).unwrap_err();
            assert_eq!(
                error.to_string(),
                "`a.jsonl` line 1: column `score` holds NaN, which JSON does not have",
                "{text}"
            );
        }
        assert_eq!(prompt("{{ a }}").apply(row).unwrap().instruction, "1");
    }

    #[test]
    fn a_filter_that_is_not_known_is_a_usage_error() {
        let unknown = prompt("{{ a | uper }}").apply(&row(json!({ "a": 1 }))).unwrap_err();
        assert_eq!(class_of(&unknown), Class::Usage);
        assert!(
            unknown.to_string().starts_with("option `prompt` of `template`: unknown filter"),
            "{unknown}"
        );
    }

    #[test]
    fn options_that_do_not_go_together_are_refused() {
        let xy = |x: &str, y: &str| choices(&[(x, "1"), (y, "2")]);
        for (answer, choices, label, target, message) in [
            (None, xy("x", "x"), Some("l"), None, "option `choices` of `template` has `x` twice"),
            (None, vec![], None, None, "option `answer` of `template` is needed"),
            (None, xy("0", "1"), None, None, "option `label` of `template` is needed"),
            (
                Some("b"),
                vec![],
                Some("label"),
                None,
                "options `label` and `target` of `template` need `choices`",
            ),
            (
                None,
                xy("0", "y"),
                None,
                Some("n"),
                "the choices of a `target` are named by the numbers",
            ),
        ] {
            let error = Mapping::new("a", answer, choices, label, target).err().unwrap();
            assert!(error.to_string().starts_with(message), "{error}");
            assert_eq!(class_of(&error), Class::Usage);
        }
    }

    #[test]
    fn a_text_that_is_no_jinja_is_named_with_its_line() {
        let error = Mapping::new("a\n{{ b", Some("x"), vec![], None, None).err().unwrap();
        assert!(
            error.to_string().starts_with("option `prompt` of `template`, line 2: syntax error"),
            "{error}"
        );
        assert_eq!(class_of(&error), Class::Usage);
    }
}
