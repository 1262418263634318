//! A strict reader of markup: every element is closed, every attribute quoted, every special letter
//! escaped.

/// An element, or a text (without a name).
#[derive(Debug, Default)]
pub struct Node {
    pub name: String,
    pub attributes: Vec<(String, String)>,
    pub children: Vec<Node>,
    pub text: String,
}

impl Node {
    pub fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    /// All elements of that name, in order; all elements for `*`.
    pub fn all(&self, name: &str) -> Vec<&Node> {
        let own = self.children.iter().filter(|c| !c.name.is_empty());
        own.flat_map(|c| {
            (name == "*" || c.name == name).then_some(c).into_iter().chain(c.all(name))
        })
        .collect()
    }

    /// The text in it, whole.
    pub fn said(&self) -> String {
        self.text.clone() + &self.children.iter().map(Node::said).collect::<String>()
    }

    pub fn is(&self, class: &str) -> bool {
        self.attribute("class").is_some_and(|c| c.split(' ').any(|c| c == class))
    }

    /// The cells of a table's body.
    pub fn cells(&self) -> Vec<Vec<String>> {
        let rows = self.all("tbody")[0].all("tr");
        rows.iter()
            .map(|row| {
                row.children
                    .iter()
                    .filter(|c| !c.name.is_empty())
                    .map(|c| c.said().trim().to_owned())
                    .collect()
            })
            .collect()
    }

    /// The card with that heading.
    pub fn card(&self, heading: &str) -> &Node {
        let cards = self.all("*").into_iter().filter(|n| n.is("card"));
        cards
            .into_iter()
            .find(|c| c.all("h2")[0].said() == heading)
            .unwrap_or_else(|| panic!("no card `{heading}`"))
    }
}

/// Reads a page that begins with the HTML doctype.
pub fn read(page: &str) -> Node {
    let mut rest = page.strip_prefix("<!DOCTYPE html>").expect("a doctype");
    let mut open = vec![Node::default()];
    while !rest.is_empty() {
        let Some(tag) = rest.strip_prefix('<') else {
            let (text, after) = rest.split_at(rest.find('<').unwrap_or(rest.len()));
            open.last_mut()
                .unwrap()
                .children
                .push(Node { text: unescaped(text), ..Node::default() });
            rest = after;
            continue;
        };
        if let Some(tag) = tag.strip_prefix('/') {
            let (name, after) = tag.split_once('>').expect("a closing tag ends");
            let node = open.pop().unwrap();
            assert_eq!(node.name, name, "closed is not what was opened");
            open.last_mut().expect("more is closed than opened").children.push(node);
            rest = after;
            continue;
        }
        let (node, empty, after) = opening(tag);
        if empty {
            open.last_mut().unwrap().children.push(node)
        } else {
            open.push(node)
        }
        rest = after;
    }
    assert_eq!(open.len(), 1, "`{}` is not closed", open.last().unwrap().name);
    open.pop().unwrap()
}

/// An opening tag after its `<`: the element, whether it is closed at once, and what follows.
fn opening(tag: &str) -> (Node, bool, &str) {
    let end = tag.find(|c: char| !c.is_ascii_alphanumeric()).expect("a tag ends");
    let (name, mut rest) = tag.split_at(end);
    assert!(
        !name.is_empty() && name.starts_with(|c: char| c.is_ascii_alphabetic()),
        "`<` that begins no tag: {}",
        &tag[..end + 1]
    );
    let mut node = Node { name: name.into(), ..Node::default() };
    loop {
        if let Some(after) = rest.strip_prefix('>') {
            return (node, false, after);
        }
        if let Some(after) = rest.strip_prefix(" />") {
            return (node, true, after);
        }
        let (key, after) = rest
            .strip_prefix(' ')
            .and_then(|r| r.split_once("=\""))
            .expect("an attribute is quoted");
        assert!(
            key.chars().all(|c| c.is_ascii_alphabetic() || c == '-' || c.is_ascii_digit()),
            "attribute `{key}`"
        );
        let (value, after) = after.split_once('"').expect("a quote is closed");
        assert!(!value.contains('<') && node.attribute(key).is_none(), "{key}={value}");
        node.attributes.push((key.into(), unescaped(value)));
        rest = after;
    }
}

fn unescaped(text: &str) -> String {
    let mut parts = text.split('&');
    let mut out = parts.next().unwrap().to_owned();
    for part in parts {
        let (name, after) = part.split_once(';').expect("an `&` is escaped");
        let letter = [("amp", '&'), ("lt", '<'), ("gt", '>'), ("quot", '"'), ("#39", '\'')]
            .into_iter()
            .find(|(n, _)| *n == name);
        out.push(letter.unwrap_or_else(|| panic!("&{name};")).1);
        out += after;
    }
    assert!(!out.chars().any(|c| c.is_control() && c != '\n' && c != '\t'), "a control character");
    out
}
