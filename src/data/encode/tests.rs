//! Encoding against a tokenizer that can be followed by eye: a token per byte, and one token for a
//! run of spaces; a run's last space joins the letter after it, as in real vocabularies.

use std::path::Path;
use std::sync::Arc;

use super::*;
use crate::data::advice::advice;
use crate::data::choices::{ChoiceReport, encode_choices};
use crate::data::item::{Message, Shots};
use crate::data::questions::encode_questions;
use crate::error::{Class, class_of};

#[derive(Default)]
struct Bytes {
    add_bos: bool,
    chat: Option<&'static str>,
}

const BOS: u32 = 600;
const EOS: u32 = 601;

impl Encode for Bytes {
    fn encode(&self, text: &str) -> Result<Vec<u32>> {
        let bytes = text.as_bytes();
        let mut ids = Vec::new();
        let mut i = 0;
        while i < bytes.len() {
            // Special tokens written in a text are recognised, as by real tokenizers.
            if let Some((id, token)) = [(BOS, "<s>"), (EOS, "</s>")]
                .into_iter()
                .find(|(_, token)| text[i..].starts_with(token))
            {
                ids.push(id);
                i += token.len();
                continue;
            }
            let spaces = bytes[i..].iter().take_while(|&&b| b == b' ').count();
            match (spaces, bytes.get(i + spaces)) {
                (0, _) => ids.push(u32::from(bytes[i])),
                (_, Some(&next)) if next != b'\n' => {
                    ids.extend((spaces > 1).then_some(700 + spaces as u32 - 1));
                    ids.push(256 + u32::from(next));
                }
                (_, _) => ids.push(700 + spaces as u32),
            }
            i += spaces + usize::from(spaces == 0 || ids.last().is_some_and(|&id| id < 700));
        }
        Ok(ids)
    }
    fn bos(&self) -> Option<u32> {
        Some(BOS)
    }
    fn eos(&self) -> Option<u32> {
        Some(EOS)
    }
    fn add_bos(&self) -> bool {
        self.add_bos
    }
    fn vocab_size(&self) -> usize {
        800
    }
    fn chat_template(&self) -> Option<&str> {
        self.chat
    }
    fn token(&self, id: u32) -> Option<String> {
        [(BOS, "<s>"), (EOS, "</s>")]
            .into_iter()
            .find(|(known, _)| *known == id)
            .map(|(_, token)| token.to_owned())
    }
    fn decode(&self, _: &[u32]) -> Result<String> {
        Ok(String::new())
    }
}

fn place(number: usize) -> ItemPlace {
    ItemPlace { file: Arc::from(Path::new("a.json")), unit: "item", number }
}

fn question(number: usize, label: Option<usize>) -> Item {
    let choices = [ANSWER, "the correct answer is no"].map(String::from).to_vec();
    let item = Instruction::new(place(number), "is it?".into(), ANSWER.into());
    Item::Instruction(Instruction { names: choices.clone(), choices, label, ..item })
}

fn options(max_length: usize, loss: LossOn) -> EncodeOptions {
    EncodeOptions { max_length, loss }
}

/// Encodes one item, with the loss on its answer.
fn train_one(item: &Item, template: Template, tokenizer: &Bytes) -> Result<Encoded> {
    encode_train(std::slice::from_ref(item), template, tokenizer, &options(999, LossOn::Answer))
}

/// Why an item cannot be encoded.
fn refused(item: &Item, template: Template, tokenizer: &Bytes) -> String {
    train_one(item, template, tokenizer).unwrap_err().to_string()
}

fn supervised(example: &Example) -> Vec<u32> {
    example.ids.iter().zip(&example.supervised).filter(|(_, s)| **s).map(|(id, _)| *id).collect()
}

const ANSWER: &str = "the correct answer is true";

#[test]
fn alpaca_trains_the_tokens_that_are_scored() {
    for add_bos in [false, true] {
        let bytes = Bytes { add_bos, chat: None };
        let encoded = encode_train(
            &[question(1, Some(0))],
            Template::Alpaca,
            &bytes,
            &options(1000, LossOn::Answer),
        )
        .unwrap();
        let (scored, _) =
            encode_choices(&[question(1, Some(0))], Template::Alpaca, &bytes, 1000).unwrap();
        let example = &encoded.examples[0];
        let whole = [&scored[0].prompt[..], &scored[0].choices[0], &[EOS]].concat();
        assert_eq!(example.ids, whole);
        assert_eq!(example.ids[0] == BOS, add_bos);
        assert_eq!(supervised(example), [&bytes.encode(ANSWER).unwrap()[..], &[EOS]].concat());
        assert_eq!(scored[0].choice_chars, [26, 24]);
        let all = encode_train(
            &[question(1, None)],
            Template::Alpaca,
            &bytes,
            &options(1000, LossOn::All),
        )
        .unwrap();
        assert_eq!(supervised(&all.examples[0]), whole[1..]);
        assert_eq!(all.report.unscorable, 1);
    }
}

#[test]
fn llm_adapters_is_one_text_with_the_end_where_there_is_room() {
    let bytes = Bytes { add_bos: true, chat: None };
    let items = [question(1, Some(0))];
    let Item::Instruction(item) = &items[0] else { unreachable!() };
    let (prompt, answer) = Template::LlmAdapters.train_text(item).unwrap();
    let text = [&[BOS][..], &bytes.encode(&format!("{prompt}{answer}")).unwrap()].concat();
    let run = |max_length, loss| {
        encode_train(&items, Template::LlmAdapters, &bytes, &options(max_length, loss)).unwrap()
    };
    let roomy = run(text.len() + 1, LossOn::All);
    assert_eq!(roomy.examples[0].ids, [&text[..], &[EOS]].concat());
    assert_eq!(roomy.report.cut, 0);
    let exact = run(text.len(), LossOn::All);
    assert_eq!(exact.examples[0].ids, text);
    assert_eq!(exact.report.cut, 0);
    let cut = run(text.len() - 1, LossOn::All);
    assert_eq!(cut.examples[0].ids, text[..text.len() - 1]);
    assert_eq!(cut.report.cut, 1);
    assert_eq!(supervised(&exact.examples[0]), text[1..]);
    // The 16 spaces become 15 and " t": that token is the answer's first.
    let joined = [&bytes.encode(" the correct answer is true").unwrap()[..], &[EOS]].concat();
    assert_eq!(supervised(&run(1000, LossOn::Answer).examples[0]), joined);
}

/// Two questions, the second of which is longer, and the tokens of the first one's prompt.
fn short_and_longer() -> ([Item; 2], usize) {
    let (scored, _) =
        encode_choices(&[question(1, Some(0))], Template::Alpaca, &Bytes::default(), 1000).unwrap();
    let mut longer = question(2, Some(0));
    if let Item::Instruction(item) = &mut longer {
        item.instruction.push_str("abc");
    }
    ([question(1, Some(0)), longer], scored[0].prompt.len())
}

#[test]
fn what_is_cut_or_dropped_is_counted() {
    let (items, prompt) = short_and_longer();
    let answer = options(prompt + 2, LossOn::Answer);
    let encoded = encode_train(&items, Template::Alpaca, &Bytes::default(), &answer).unwrap();
    let report = EncodeReport {
        items: 2,
        examples: 1,
        tokens: prompt + 2,
        supervised_tokens: 2,
        cut: 1,
        dropped: 1,
        ..EncodeReport::default()
    };
    assert_eq!(encoded.report, report);
    assert_eq!(
        EncodeReport { tokens: 90, unscorable: 3, ..report }.to_string(),
        "2 items gave 1 example of 90 tokens, 2 of them in the loss; cut short at the length \
         limit: 1; left out with nothing to learn: 1; answer is none of the choices: 3"
    );
}

#[test]
fn a_limit_that_leaves_nothing_to_learn_is_refused() {
    let (items, prompt) = short_and_longer();
    let refused =
        |options| encode_train(&items, Template::Alpaca, &Bytes::default(), &options).unwrap_err();
    let none = refused(options(prompt, LossOn::Answer));
    assert_eq!(class_of(&none), Class::Data);
    assert!(
        none.to_string()
            .starts_with(&format!("no example is left to train on within {prompt} tokens: ")),
        "{none}"
    );
    let limit = refused(options(1, LossOn::All));
    assert_eq!(
        (class_of(&limit), limit.to_string()),
        (
            Class::Usage,
            "a length limit of 1 tokens leaves nothing to predict; it is 2 at least".into()
        )
    );
}

fn token_row(number: usize, ids: &[u32], mask_first: usize) -> Item {
    let supervised = (0..ids.len()).map(|i| i >= mask_first).collect();
    Item::Tokens(TokenRow { place: place(number), ids: ids.to_vec(), supervised })
}

#[test]
fn token_rows_are_taken_as_they_are() {
    let rows = [
        token_row(1, &[7, 8, 9], 0),
        token_row(2, &[7, 8, 9, 10, 11], 3),
        token_row(3, &[7, 8], 2),
        token_row(4, &[], 0),
    ];
    let bytes = Bytes { add_bos: true, chat: None };
    let encoded = encode_train(&rows, Template::Alpaca, &bytes, &options(4, LossOn::All)).unwrap();
    assert_eq!(encoded.examples[0], Example::new(vec![7, 8, 9], vec![false, true, true]));
    assert_eq!(
        encoded.examples[1],
        Example::new(vec![7, 8, 9, 10], vec![false, false, false, true])
    );
    let report = encoded.report;
    assert_eq!(
        (report.examples, report.supervised_tokens, report.cut, report.dropped),
        (2, 3, 1, 2)
    );
}

#[test]
fn token_rows_are_checked_against_the_vocabulary() {
    let rows = [token_row(1, &[7, 8], 0), token_row(2, &[7, 800], 0)];
    let options = options(4, LossOn::All);
    let error = encode_train(&rows, Template::Alpaca, &Bytes::default(), &options).unwrap_err();
    assert_eq!(
        (class_of(&error), error.to_string()),
        (Class::Data, "`a.json` item 2: id 800 is beyond the vocabulary of 800 tokens".into())
    );
}

#[test]
fn texts_are_divided_into_consecutive_blocks() {
    let text =
        |text: &str, ended| Item::Text(Document { place: place(1), text: text.into(), ended });
    let bytes = Bytes { add_bos: true, chat: None };
    let run = |item| {
        encode_train(&[item], Template::Alpaca, &bytes, &options(4, LossOn::Answer)).unwrap()
    };
    let blocks: Vec<Vec<u32>> =
        run(text("abcdef", true)).examples.into_iter().map(|example| example.ids).collect();
    assert_eq!(blocks, [vec![BOS, 97, 98, 99], vec![100, 101, 102, EOS]]);
    let open = run(text("abcd", false));
    assert_eq!(open.examples.len(), 1);
    assert_eq!((open.report.supervised_tokens, open.report.cut, open.report.dropped), (3, 0, 1));
}

#[test]
fn items_that_cannot_be_scored_are_counted() {
    let bytes = Bytes { add_bos: false, chat: None };
    let mut long = question(3, Some(1));
    if let Item::Instruction(item) = &mut long {
        item.instruction.push_str(&"x".repeat(300));
    }
    let row =
        Item::Tokens(TokenRow { place: place(4), ids: vec![1, 2], supervised: vec![true; 2] });
    let items = [question(1, Some(1)), question(2, None), long, row];
    let (scored, report) = encode_choices(&items, Template::Alpaca, &bytes, 300).unwrap();
    assert_eq!(
        report,
        ChoiceReport {
            items: 4,
            scored: 1,
            unscorable: 2,
            too_long: 1,
            fewer_shots: 0,
            joined: Joined::default()
        }
    );
    assert_eq!(
        report.to_string(),
        "1 scored of 4 items; no choice is the answer: 2; too long for the model: 1"
    );
    assert_eq!((scored.len(), scored[0].label), (1, 1));
    let none = encode_choices(&items[1..2], Template::Alpaca, &bytes, 300).unwrap_err();
    let message =
        "no item can be scored by its choices: 0 scored of 1 item; no choice is the answer: 1";
    assert_eq!((class_of(&none), none.to_string()), (Class::Data, message.into()));
    let fits = scored[0].prompt.len() + scored[0].choices[0].len();
    assert_eq!(encode_choices(&items, Template::Alpaca, &bytes, fits).unwrap().1.too_long, 1);
    assert!(encode_choices(&items[..1], Template::Alpaca, &bytes, fits - 1).is_err());
}

#[test]
fn loss_names_are_suggested() {
    assert_eq!(LossOn::parse("answer").unwrap(), LossOn::Answer);
    assert_eq!(LossOn::parse("all").unwrap(), LossOn::All);
    let error = LossOn::parse("answers").unwrap_err();
    assert_eq!(
        (class_of(&error), error.to_string()),
        (Class::Usage, "the loss cannot be on `answers`; did you mean `answer`?".into())
    );
}

/// A template that begins with the beginning of sequence and ends each turn with the end of
/// sequence, as Llama 2's.
const TURNS: &str = "{{ bos_token }}{% for m in messages %}\
    {{ m.role[:1] }}:{{ m.content }}{{ eos_token if m.role == 'assistant' }}
{% endfor %}{% if add_generation_prompt %}a:{% endif %}";

fn chat(turns: &[(&str, &str)]) -> Item {
    Item::Chat(Chat::new(
        place(1),
        turns.iter().map(|(role, content)| Message::new(role, content)).collect(),
    ))
}

fn encoded(item: &Item, template: Template, tokenizer: &Bytes) -> Example {
    train_one(item, template, tokenizer).unwrap().examples.into_iter().next().unwrap()
}

/// The tokens as text, those in the loss in brackets.
fn shown(example: &Example) -> String {
    let one = |(id, counts): (&u32, &bool)| {
        let text = match *id {
            BOS => "<s>".to_owned(),
            EOS => "</s>".to_owned(),
            id if id >= 700 => " ".repeat(id as usize - 700),
            id if id >= 256 => format!(" {}", (id - 256) as u8 as char),
            id => (id as u8 as char).to_string(),
        };
        if *counts { format!("[{text}]") } else { text }
    };
    example.ids.iter().zip(&example.supervised).map(one).collect::<String>().replace("][", "")
}

#[test]
fn each_turn_of_the_assistant_is_learnt_with_its_end() {
    let item = chat(&[
        ("system", "be"),
        ("user", "hi"),
        ("assistant", "yo"),
        ("user", "bye"),
        ("assistant", "so"),
    ]);
    let tokenizer = Bytes { add_bos: true, chat: Some(TURNS) };
    // The template brings the beginning of sequence: there is one, not two, and one end a turn.
    assert_eq!(
        shown(&encoded(&item, Template::Chat, &tokenizer)),
        "<s>s:be\nu:hi\na:[yo</s>]\nu:bye\na:[so</s>]\n"
    );
    assert_eq!(
        encoded(&item, Template::Chat, &tokenizer).ids,
        encoded(&item, Template::Chat, &Bytes { chat: Some(TURNS), ..Bytes::default() }).ids
    );
    // An instruction is a user's turn.
    assert_eq!(
        shown(&encoded(&question(1, Some(0)), Template::Chat, &tokenizer)),
        "<s>u:is it?\na:[the correct answer is true</s>]\n"
    );
}

#[test]
fn a_turn_that_the_template_does_not_end_is_ended() {
    let open = "{% for m in messages %}{{ m.content }}|{% endfor %}";
    let tokenizer =
        Bytes { add_bos: true, chat: Some("{% for m in messages %}{{ m.content }}\n{% endfor %}") };
    let item = chat(&[("user", "hi"), ("assistant", "yo")]);
    assert_eq!(shown(&encoded(&item, Template::Chat, &tokenizer)), "hi\n[yo</s>]\n");
    // One that brings its own end has it once.
    let said = chat(&[("user", "hi"), ("assistant", "yo</s>")]);
    assert_eq!(shown(&encoded(&said, Template::Chat, &tokenizer)), "hi\n[yo</s>]\n");
    let ended = Bytes { add_bos: false, chat: Some(open) };
    assert_eq!(shown(&encoded(&item, Template::Chat, &ended)), "hi|[yo|]");
}

#[test]
fn a_token_that_holds_a_part_of_an_answer_is_learnt() {
    // The prompt's last space joins the answer's first letter: one text to the tokenizer, as in
    // transformers.
    let spaced = "{% for m in messages %}{{ m.role[:1] }}: {{ m.content }}|{% endfor %}\
                  {% if add_generation_prompt %}a: {% endif %}";
    let tokenizer = Bytes { add_bos: true, chat: Some(spaced) };
    let item = chat(&[("user", "hi"), ("assistant", "yo"), ("user", "x"), ("assistant", "z")]);
    assert_eq!(shown(&encoded(&item, Template::Chat, &tokenizer)), "u: hi|a:[ yo|]u: x|a:[ z|]");
    // Cut within a turn, what is left is marked the same.
    let cut =
        encode_train(&[item], Template::Chat, &tokenizer, &options(9, LossOn::Answer)).unwrap();
    assert_eq!((shown(&cut.examples[0]).as_str(), cut.report.cut), ("u: hi|a:[ yo]", 1));
}

#[test]
fn neither_end_nor_beginning_is_doubled_or_missed() {
    let Item::Instruction(mut item) = question(1, Some(0)) else { unreachable!() };
    let both = |add_bos| Bytes { add_bos, chat: None };
    for (instruction, answer, add_bos, want) in [
        ("ab", "c", false, "ab[c</s>]"),
        ("ab", "c", true, "<s>ab[c</s>]"),
        ("<s>ab", "c", true, "<s>ab[c</s>]"),
        ("ab", "c</s>", true, "<s>ab[c</s>]"),
    ] {
        (item.instruction, item.answer_text) = (instruction.into(), answer.into());
        assert_eq!(
            shown(&encoded(&Item::Instruction(item.clone()), Template::None, &both(add_bos))),
            want
        );
    }
}

#[test]
fn a_conversation_that_no_template_words_is_refused() {
    let talk = chat(&[("user", "hi"), ("assistant", "yo")]);
    assert_eq!(
        refused(&talk, Template::Alpaca, &Bytes::default()),
        "`a.json` item 1 is a conversation, which the template `alpaca` does not word"
    );
    assert_eq!(refused(&talk, Template::Chat, &Bytes::default()), "the model has no chat template");
    let silent = chat(&[("user", "hi")]);
    let refusing = "{{ raise_exception('roles must alternate') }}";
    let sizes =
        "{{ messages | length }}{% for m in messages %}{{ m.content | length }}{% endfor %}";
    for (item, template, message) in [
        (
            &silent,
            TURNS,
            "`a.json` item 1: no turn of the conversation is the assistant's, so nothing is to be \
             learnt",
        ),
        (
            &talk,
            refusing,
            "`a.json` item 1: the model's chat template refuses the conversation: roles must \
             alternate",
        ),
        (
            &talk,
            sizes,
            "`a.json` item 1: under the model's chat template turn 2 changes what stands before \
             it, and cannot be told from it",
        ),
    ] {
        let tokenizer = Bytes { add_bos: true, chat: Some(template) };
        assert_eq!(refused(item, Template::Chat, &tokenizer), message);
    }
}

#[test]
fn a_record_that_no_template_words_is_refused() {
    let row = Item::Row(Row {
        place: place(4),
        fields: serde_json::Map::from_iter([("a".into(), 1.into()), ("b".into(), 2.into())]),
    });
    let unworded = "`a.json` item 4 is a record with the columns `a`, `b`, which no template words";
    assert_eq!(
        encode_choices(std::slice::from_ref(&row), Template::None, &Bytes::default(), 99)
            .unwrap_err()
            .to_string(),
        unworded
    );
    assert_eq!(refused(&row, Template::None, &Bytes::default()), unworded);
}

#[test]
fn questions_are_the_prompts_of_choices() {
    let bytes = Bytes { add_bos: true, chat: None };
    let items = [question(1, Some(1)), question(2, None), question(3, Some(0))];
    let (scored, _) = encode_choices(&items, Template::Alpaca, &bytes, 1000).unwrap();
    let (asked, report) =
        encode_questions(&items, Template::Alpaca, &bytes, scored[0].prompt.len()).unwrap();
    assert_eq!(
        report,
        ChoiceReport {
            items: 3,
            scored: 2,
            unscorable: 1,
            too_long: 0,
            fewer_shots: 0,
            joined: Joined::default()
        }
    );
    for (asked, scored) in asked.iter().zip(&scored) {
        assert_eq!(
            (&asked.prompt, &asked.names, asked.label),
            (&scored.prompt, &scored.names, scored.label)
        );
    }
    let error = encode_questions(&items, Template::Alpaca, &bytes, 3).unwrap_err();
    let message = "no item can be scored by its answer: 0 scored of 3 items; no choice is the \
                   answer: 1; too long for the model: 2";
    assert_eq!((class_of(&error), error.to_string()), (Class::Data, message.into()));
}

/// What each example of a conversation shows, and what the report counts.
fn talked(item: &Item, template: &'static str) -> (Vec<String>, Talks) {
    let tokenizer = Bytes { add_bos: false, chat: Some(template) };
    let all = train_one(item, Template::Chat, &tokenizer).unwrap();
    (all.examples.iter().map(shown).collect(), all.report.talks)
}

/// The conversation, of whose answers the first is not to be learnt.
fn unlearnt(mut item: Item) -> Item {
    if let Item::Chat(talk) = &mut item {
        talk.messages[1].learnt = false;
    }
    item
}

/// As Qwen3: the last answer has a block before it that earlier ones have not.
const LAST_THINKS: &str = "{% set ns = namespace(last=0) %}\
    {% for m in messages %}{% if m.role == 'user' %}{% set ns.last = loop.index0 %}{% endif %}\
    {% endfor %}\
    {% for m in messages %}{{ m.role[:1] }}:\
    {% if m.role == 'assistant' and loop.index0 > ns.last %}({{ m.reasoning_content }}){% endif %}\
    {{ m.content.split('|')[-1] }}</s>{% endfor %}{% if add_generation_prompt %}a:{% endif %}";

#[test]
fn turns_are_found_in_what_is_rendered_once() {
    let two = chat(&[("user", "b"), ("assistant", "b"), ("user", "b"), ("assistant", "b")]);
    let found = Talks { found: 1, ..Talks::default() };
    assert_eq!(
        talked(&two, LAST_THINKS),
        (vec!["u:b</s>a:[b</s>]u:b</s>a:[()b</s>]".into()], found)
    );
    assert_eq!(
        talked(&chat(&[("user", "b"), ("assistant", "b")]), LAST_THINKS).1,
        Talks::default()
    );
    // What earlier turns lose in the whole is learnt from each by itself: thoughts beside the
    // content, or in it.
    let each = Talks { each: 1, ..Talks::default() };
    let mut thinking = two.clone();
    if let Item::Chat(talk) = &mut thinking {
        talk.messages[1].fields.insert("reasoning_content".into(), "t".into());
    }
    let want = vec!["u:b</s>a:[(t)b</s>]".into(), "u:b</s>a:b</s>u:b</s>a:[()b</s>]".into()];
    assert_eq!(talked(&thinking, LAST_THINKS), (want, each));
    let inside = chat(&[("user", "b"), ("assistant", "t|b")]);
    assert_eq!(
        talked(&inside, LAST_THINKS),
        (vec!["u:b</s>a:[()b</s>]".into()], Talks { altered: 1, ..Talks::default() })
    );
    // A turn that is not to be learnt is there all the same.
    assert_eq!(
        talked(&unlearnt(two), LAST_THINKS),
        (vec!["u:b</s>a:b</s>u:b</s>a:[()b</s>]".into()], found)
    );
}

#[test]
fn what_is_asked_alone_is_no_part_of_the_prompt() {
    // As DeepSeek-R1: asked, the assistant begins to think; answered, it has not, unless its answer
    // says so.
    let thinks = "<s>{% for m in messages %}{% if m.role == 'user' %}\
                  u:{{ m.content }}{% else %}a:{{ m.content }}</s>{% endif %}\
                  {% endfor %}{% if add_generation_prompt %}a:<t>{% endif %}";
    let item = chat(&[("user", "q"), ("assistant", "<x"), ("user", "r"), ("assistant", "<t>y")]);
    assert_eq!(
        talked(&item, thinks),
        (vec!["<s>u:qa:[<x</s>]u:ra:<t>[y</s>]".into()], Talks::default())
    );
}

#[test]
fn what_moves_to_the_last_question_is_learnt_from_turn_by_turn() {
    // As Mistral: the system text stands in the last question, and nowhere once that is answered.
    let moves = "<s>{% set system = messages[0].content if messages[0].role == 'system' else '' %}\
        {% for m in messages if m.role != 'system' %}{% if m.role == 'user' %}\
        ({% if loop.last and system %}{{ system }}. {% endif %}{{ m.content }})\
        {% else %} {{ m.content }}</s>{% endif %}{% endfor %}";
    let item = chat(&[
        ("system", "be"),
        ("user", "q"),
        ("assistant", "x"),
        ("user", "r"),
        ("assistant", "y"),
    ]);
    let want = vec!["<s>(be. q)[ x</s>]".into(), "<s>(q) x</s>(be. r)[ y</s>]".into()];
    assert_eq!(talked(&item, moves), (want, Talks { each: 1, ..Talks::default() }));
    let plain = chat(&[("user", "q"), ("assistant", "x"), ("user", "r"), ("assistant", "y")]);
    assert_eq!(talked(&plain, moves), (vec!["<s>(q)[ x</s>](r)[ y</s>]".into()], Talks::default()));
    // A number before all of it is of the prompt.
    let numbered = "{{ messages | length }}{% for m in messages %}{{ m.content }}{% endfor %}";
    assert_eq!(talked(&chat(&[("user", "hi"), ("assistant", "yo")]), numbered).0, ["1hi[yo</s>]"]);
}

#[test]
fn what_the_assistant_says_first_is_learnt_without_its_header() {
    let item = chat(&[("assistant", "x"), ("user", "q"), ("assistant", "y")]);
    // A beginning before the first message; one that asks what the first message is; what is asked
    // that the answer has not, and has more of; nothing that is asked.
    let talk = "{% for m in messages %}{{ m.role[:1] }}:{{ m.content }}</s>{% endfor %}";
    let ask = "{% if add_generation_prompt %}a:{% endif %}";
    for (first, ask, want) in [
        ("{% if messages %}<s>{% endif %}", ask, "<s>a:[x</s>]u:q</s>a:[y</s>]"),
        ("{% if messages[0].role[0] == 's' %}{% endif %}", ask, "a:[x</s>]u:q</s>a:[y</s>]"),
        ("<s>", "{% if add_generation_prompt %}a:<t>{% endif %}", "<s>a:[x</s>]u:q</s>a:[y</s>]"),
        ("<s>", "", "<s>[a:x</s>]u:q</s>[a:y</s>]"),
    ] {
        let template: &'static str = Box::leak(format!("{first}{talk}{ask}").into_boxed_str());
        assert_eq!(talked(&item, template), (vec![want.into()], Talks::default()), "{template}");
    }
}

#[test]
fn a_conversation_begins_as_the_template_says() {
    let item = chat(&[("user", "q"), ("assistant", "x")]);
    let plain = "{% for m in messages %}{{ m.content }}</s>{% endfor %}";
    for (add_bos, unbegun) in [(true, 1), (false, 0)] {
        let tokenizer = Bytes { add_bos, chat: Some(plain) };
        let all = train_one(&item, Template::Chat, &tokenizer).unwrap();
        assert_eq!(
            (shown(&all.examples[0]).as_str(), all.report.talks),
            ("q</s>[x</s>]", Talks { unbegun, ..Talks::default() })
        );
    }
}

#[test]
fn generation_blocks_say_what_is_learnt() {
    let marked = "{% for m in messages %}\
                  {% if m.role == 'assistant' %}a:{% generation %}{{ m.content }}</s>\n\
                  {%- endgeneration %}{% else %}{{ m.content }}{% endif %}{% endfor %}";
    let item = chat(&[("user", "q"), ("assistant", "x"), ("user", "r"), ("assistant", "y")]);
    assert_eq!(talked(&item, marked), (vec!["qa:[x</s>]ra:[y</s>]".into()], Talks::default()));
    assert_eq!(talked(&unlearnt(item), marked).0, ["qa:x</s>ra:[y</s>]"]);
}

#[test]
fn what_the_template_leaves_out_is_refused() {
    let users = "{% for m in messages %}{% if m.role in ['user', 'assistant'] %}\
                 {{ m.role[:1] }}:{{ m.content }}</s>{% endif %}{% endfor %}";
    let tokenizer = Bytes { add_bos: false, chat: Some(users) };
    let refused = |item: &Item| refused(item, Template::Chat, &tokenizer);
    let item = chat(&[("system", "q"), ("user", "q"), ("assistant", "x")]);
    let said = "`a.json` item 1: the model's chat template leaves out message 1 of the \
                conversation, which is of the role `system`";
    assert_eq!(refused(&item), said);
    let Item::Chat(mut talk) = chat(&[("user", "q"), ("assistant", "x")]) else { unreachable!() };
    talk.tools = vec![serde_json::json!({ "name": "f" })];
    assert_eq!(
        refused(&Item::Chat(talk.clone())),
        "`a.json` item 1: the model's chat template has no place for `tools`"
    );
    talk.tools = vec![];
    talk.messages[1].fields.insert("tool_calls".into(), serde_json::json!([{ "name": "f" }]));
    let said = "`a.json` item 1: the model's chat template leaves out `tool_calls` of message 2 of \
                the conversation";
    assert_eq!(refused(&Item::Chat(talk)), said);
}

#[test]
fn what_stands_before_a_question_is_worded_by_chat_templates_alone() {
    let Item::Instruction(mut item) = question(1, None) else { unreachable!() };
    item.before.history = vec![("a".into(), "b".into())];
    item.before.system = "be".into();
    let item = Item::Instruction(item);
    for template in [Template::Alpaca, Template::Cloze, Template::None, Template::LlmAdapters] {
        let error = train_one(&item, template, &Bytes::default()).unwrap_err();
        let said = format!(
            "`a.json` item 1 has `system` and `history`, which the template `{}` has no place for",
            template.name()
        );
        assert_eq!((class_of(&error), error.to_string()), (Class::Data, said));
    }
    let turns = "{% for m in messages %}{{ m.role[:1] }}:{{ m.content }}</s>{% endfor %}\
                 {% if add_generation_prompt %}a:{% endif %}";
    let tokenizer = Bytes { add_bos: false, chat: Some(turns) };
    let want = "s:be</s>u:a</s>a:[b</s>]u:is it?</s>a:[the correct answer is true</s>]";
    assert_eq!(shown(&encoded(&item, Template::Chat, &tokenizer)), want);
}

/// A question with the texts that may follow it, of which the first is right.
fn asked(prompt: &str, choices: &[&str]) -> Instruction {
    let choices: Vec<String> = choices.iter().map(|choice| (*choice).to_owned()).collect();
    let item = Instruction::new(place(1), prompt.into(), choices[0].clone());
    Instruction { names: choices.clone(), choices, label: Some(0), ..item }
}

#[test]
fn solved_examples_that_do_not_fit_are_left_out_from_the_first_on() {
    let solved: Vec<Instruction> = ["1", "22", "333"].map(|n| asked(n, &["!"])).into();
    let shots = Some(Arc::new(Shots { solved, separator: "\n".into() }));
    let item = Item::Instruction(Instruction { shots, ..asked("q", &["!", "?"]) });
    let bytes = Bytes::default();
    let of =
        |most: usize| encode_choices(std::slice::from_ref(&item), Template::None, &bytes, most);
    // 3 + 4 + 5 bytes of examples, the question, and a choice.
    for (most, prompt, fewer) in
        [(14, "1!\n22!\n333!\nq", 0), (13, "22!\n333!\nq", 1), (10, "333!\nq", 1), (6, "q", 1)]
    {
        let (items, report) = of(most).unwrap();
        assert_eq!(items[0].prompt, bytes.encode(prompt).unwrap(), "{most}");
        assert_eq!((report.fewer_shots, report.scored), (fewer, 1));
    }
    let (_, report) = of(6).unwrap();
    assert_eq!(report.to_string(), "1 scored of 1 item; with fewer solved examples, to fit: 1");
    assert!(of(1).is_err());
    let (asked, report) =
        encode_questions(std::slice::from_ref(&item), Template::None, &bytes, 9).unwrap();
    assert_eq!(asked[0].prompt, bytes.encode("333!\nq").unwrap());
    assert_eq!(report.fewer_shots, 1);
}

#[test]
fn to_a_chat_template_solved_examples_are_turns() {
    let chat = "{% for m in messages %}{{ m.role[0] }}:{{ m.content }};{% endfor %}";
    let bytes = Bytes { chat: Some(chat), ..Bytes::default() };
    let solved = vec![asked("1", &["!"])];
    let shots = Some(Arc::new(Shots { solved, separator: "\n".into() }));
    let item = Instruction { shots, ..asked("q", &["!", "?"]) };
    let words = Words::new(Template::Chat, &bytes).unwrap();
    assert_eq!(words.test_prompt(&item).unwrap(), "u:1;a:!;u:q;");
    let item = Item::Instruction(item);
    let example = &train_one(&item, Template::Chat, &bytes).unwrap().examples[0];
    assert_eq!(example.ids, bytes.encode("u:q;a:!;").unwrap());
}

#[test]
fn what_fills_a_blank_is_given_and_not_scored() {
    let given: Vec<String> = ["cup", "cat"].map(str::to_owned).into();
    let item = Instruction { given, ..asked("the ", &[" ran.", " ran."]) };
    let bytes = Bytes::default();
    let (items, _) =
        encode_choices(&[Item::Instruction(item)], Template::None, &bytes, 99).unwrap();
    let one = &items[0];
    // A space is a part of the letter behind it: "the" and " c" begin both.
    assert_eq!(one.prompt, bytes.encode("the c").unwrap());
    assert_eq!(one.choices[0], bytes.encode("up ran.").unwrap());
    assert_eq!(one.choices[1], bytes.encode("at ran.").unwrap());
    assert_eq!(one.given, [2, 2]);
}

#[test]
fn a_template_says_whether_an_end_is_learnt() {
    let bytes = Bytes::default();
    let ended = asked("q", &["!"]);
    let open = Instruction { ended: false, ..ended.clone() };
    let ended = train_one(&Item::Instruction(ended), Template::None, &bytes).unwrap();
    let open = train_one(&Item::Instruction(open), Template::None, &bytes).unwrap();
    assert_eq!(ended.examples[0].ids.last(), Some(&EOS));
    assert_eq!((open.examples[0].ids.last(), open.report.ends), (Some(&u32::from(b'!')), 0));
    assert_eq!(
        ended.report.to_string(),
        "1 item gave 1 example of 3 tokens, 2 of them in the loss (50 % end a sequence)"
    );
    let piece = |text: &str, supervised| TextPiece { text: text.into(), supervised };
    let talk = |ended| {
        let worded = Some(vec![piece("q", false), piece("!", true)]);
        Item::Chat(Chat { worded, ended, ..Chat::new(place(1), vec![]) })
    };
    let ids =
        |ended| train_one(&talk(ended), Template::None, &bytes).unwrap().examples[0].ids.len();
    assert_eq!((ids(true), ids(false)), (3, 2));
}

#[test]
fn odd_borders_of_a_template_are_told() {
    let bytes = Bytes::default();
    let told = |prompt: &str, answer: &str| {
        let items = [Item::Instruction(asked(prompt, &[answer, answer]))];
        advice(&items, Template::None, &bytes).unwrap().join("\n")
    };
    assert!(told("Answer: ", "yes").starts_with("1 of 1 item: the prompt ends in a space"));
    assert_eq!(
        told("an Answer:", "yes"),
        "1 of 1 item: the answer begins without a space directly behind the prompt (\"an \
         Answer:\" before \"yes\"), where texts have one: begin the answers with it"
    );
    assert!(told("a<", "/s>").contains("the tokenizer joins the prompt's end"));
    for (prompt, answer) in [("Answer:", " yes"), ("Answer:\n", "yes"), ("q", "?")] {
        assert_eq!(told(prompt, answer), "", "{prompt:?} {answer:?}");
    }
    let pair = Instruction { pair: Some("b".into()), ..asked("a", &["0", "1"]) };
    assert_eq!(advice(&[Item::Instruction(pair)], Template::None, &bytes).unwrap(), [""; 0]);
}
