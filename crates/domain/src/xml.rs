//! Writing XML: a tree of elements whose every text is escaped.

use quick_xml::escape::escape;

use crate::error::DomainError;

/// An element with its attributes and either text or children.
#[derive(Clone, Debug)]
pub(crate) struct Element {
    name: &'static str,
    attributes: Vec<(&'static str, String)>,
    text: Option<String>,
    children: Vec<Element>,
}

/// Starts an element.
pub(crate) fn element(name: &'static str) -> Element {
    Element { name, attributes: Vec::new(), text: None, children: Vec::new() }
}

impl Element {
    pub(crate) fn attr(mut self, name: &'static str, value: impl ToString) -> Self {
        self.attributes.push((name, value.to_string()));
        self
    }

    pub(crate) fn attr_opt(self, name: &'static str, value: Option<impl ToString>) -> Self {
        match value {
            Some(value) => self.attr(name, value),
            None => self,
        }
    }

    pub(crate) fn text(mut self, text: impl ToString) -> Self {
        self.text = Some(text.to_string());
        self
    }

    pub(crate) fn child(mut self, child: Element) -> Self {
        self.children.push(child);
        self
    }

    pub(crate) fn children(mut self, children: impl IntoIterator<Item = Element>) -> Self {
        self.children.extend(children);
        self
    }

    /// The document with this element as its root. Every text in it passed [`user_text`] or [`node_text`], or is ours.
    pub(crate) fn render(&self) -> String {
        let mut out = String::with_capacity(4096);
        self.write(&mut out, 0);
        out
    }

    fn write(&self, out: &mut String, depth: usize) {
        let indent = "  ".repeat(depth);
        out.push_str(&indent);
        out.push('<');
        out.push_str(self.name);
        for (name, value) in &self.attributes {
            out.push(' ');
            out.push_str(name);
            out.push_str("=\"");
            out.push_str(&escape(value.as_str()));
            out.push('"');
        }
        match (&self.text, self.children.as_slice()) {
            (Some(text), _) => {
                out.push('>');
                out.push_str(&escape(text.as_str()));
            }
            (None, []) => {
                out.push_str("/>\n");
                return;
            }
            (None, children) => {
                out.push_str(">\n");
                for child in children {
                    child.write(out, depth + 1);
                }
                out.push_str(&indent);
            }
        }
        out.push_str("</");
        out.push_str(self.name);
        out.push_str(">\n");
    }
}

/// Longest text of a user that is written into a document.
const MAX_TEXT: usize = 1024;

/// A text a user chose: printable, not endless. Control characters have no place in any of these fields, and some cannot stand in
/// XML at all.
pub(crate) fn user_text(field: &str, value: &str) -> Result<String, DomainError> {
    let problem = if value.len() > MAX_TEXT {
        format!("it has more than {MAX_TEXT} bytes")
    } else if let Some(bad) = value.chars().find(|c| !is_writable(*c)) {
        format!("it has the character U+{:04X}, which a domain cannot carry", u32::from(bad))
    } else {
        return Ok(value.to_owned());
    };
    let value = value.chars().take(64).collect();
    Err(DomainError::InvalidValue { field: field.to_owned(), value, problem })
}

/// A path or name of the node.
pub(crate) fn node_text(what: &'static str, value: &str) -> Result<String, DomainError> {
    let problem = if value.is_empty() {
        "it is empty"
    } else if !value.chars().all(is_writable) {
        "it has a character a domain cannot carry"
    } else {
        return Ok(value.to_owned());
    };
    Err(DomainError::InvalidFact { what, value: value.to_owned(), problem })
}

/// An absolute path of the node.
pub(crate) fn node_path(what: &'static str, value: &str) -> Result<String, DomainError> {
    if !value.starts_with('/') {
        return Err(DomainError::InvalidFact { what, value: value.to_owned(), problem: "it is not an absolute path" });
    }
    node_text(what, value)
}

/// A unix socket path: the kernel takes 107 bytes.
pub(crate) fn socket_path(what: &'static str, value: &str) -> Result<String, DomainError> {
    if value.len() > 107 {
        let problem = "it is longer than the 107 bytes a unix socket may have";
        return Err(DomainError::InvalidFact { what, value: value.to_owned(), problem });
    }
    node_path(what, value)
}

fn is_writable(c: char) -> bool {
    !c.is_control() && !matches!(c, '\u{FFFE}' | '\u{FFFF}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markup_in_texts_stays_text() {
        let hostile = "'\"><evil a=\"&amp;\"/><!--";
        let xml = element("a").attr("b", hostile).child(element("c").text(hostile)).render();
        let document = roxmltree::Document::parse(&xml).unwrap();
        assert_eq!(document.root_element().attribute("b"), Some(hostile));
        assert_eq!(document.descendants().filter(|node| node.is_element()).count(), 2);
        assert_eq!(document.root_element().first_element_child().unwrap().text(), Some(hostile));
    }

    #[test]
    fn control_characters_are_refused_with_the_field() {
        for bad in ["a\0b", "a\nb", "\u{1b}[0m", "\u{FFFF}", "\u{85}"] {
            let error = user_text("spec.x", bad).unwrap_err();
            assert!(error.to_string().contains("spec.x"), "{error}");
        }
        assert!(user_text("x", &"y".repeat(2000)).is_err());
        assert!(node_path("disk", "relative").is_err());
        assert!(socket_path("serial", &format!("/{}", "x".repeat(107))).is_err());
    }
}
