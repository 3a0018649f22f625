//! Documents as the tests see them: headings, links, code, tables, each with its line.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use pulldown_cmark::{CodeBlockKind, Event, Options, Parser, Tag, TagEnd};

/// A Markdown file, read.
#[derive(Debug)]
pub(crate) struct Document {
    /// Its path below the repository's root.
    pub(crate) path: PathBuf,
    /// Its headings, in order.
    pub(crate) headings: Vec<Heading>,
    /// The targets of links and images, and of sections that a link's sentence names: `file.md, "Heading"`.
    pub(crate) links: Vec<Link>,
    /// The code inside of lines.
    pub(crate) spans: Vec<(usize, String)>,
    /// The blocks of code.
    pub(crate) blocks: Vec<Block>,
    /// The rows of tables, below the heading that they have.
    pub(crate) rows: Vec<Row>,
}

#[derive(Debug)]
pub(crate) struct Heading {
    pub(crate) line: usize,
    pub(crate) text: String,
    /// What a link to it has behind `#`, as GitHub makes it.
    pub(crate) anchor: String,
}

#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) line: usize,
    pub(crate) target: String,
    /// A heading that the text beside the link names.
    pub(crate) section: Option<String>,
}

#[derive(Debug)]
pub(crate) struct Block {
    pub(crate) line: usize,
    /// What stands behind the fence; empty for an indented block.
    pub(crate) info: String,
    pub(crate) text: String,
}

#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) line: usize,
    /// The text of the heading above.
    pub(crate) heading: String,
    /// The first row of its table.
    pub(crate) head: Vec<String>,
    pub(crate) cells: Vec<Cell>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Cell {
    /// The text without marks.
    pub(crate) text: String,
    /// The code in it.
    pub(crate) spans: Vec<String>,
}

impl Document {
    pub(crate) fn parse(path: &Path, text: &str) -> Document {
        let mut reader = Reader {
            document: Document {
                path: path.to_owned(),
                headings: Vec::new(),
                links: Vec::new(),
                spans: Vec::new(),
                blocks: Vec::new(),
                rows: Vec::new(),
            },
            lines: text.match_indices('\n').map(|(at, _)| at).collect(),
            anchors: BTreeMap::new(),
            heading: None,
            block: None,
            head: Vec::new(),
            cells: Vec::new(),
            in_cell: false,
            behind_link: None,
            said: String::new(),
        };
        let options = Options::ENABLE_TABLES | Options::ENABLE_STRIKETHROUGH;
        for (event, range) in Parser::new_ext(text, options).into_offset_iter() {
            reader.take(event, &range);
        }
        reader.document
    }

    /// "docs/abi.md:12", for a message.
    pub(crate) fn at(&self, line: usize) -> String {
        format!("{}:{line}", self.path.display())
    }
}

struct Reader {
    document: Document,
    /// Where lines end.
    lines: Vec<usize>,
    /// How often each anchor was made.
    anchors: BTreeMap<String, usize>,
    heading: Option<Heading>,
    block: Option<Block>,
    head: Vec<String>,
    cells: Vec<Cell>,
    in_cell: bool,
    /// The text behind the last link, while it may name a section.
    behind_link: Option<String>,
    /// The text of the paragraph so far.
    said: String,
}

impl Reader {
    fn take(&mut self, event: Event<'_>, range: &Range<usize>) {
        let line = self.lines.partition_point(|end| *end < range.start) + 1;
        match event {
            Event::Start(Tag::Heading { .. }) => {
                self.heading = Some(Heading { line, text: String::new(), anchor: String::new() });
            }
            Event::End(TagEnd::Heading(_)) => self.end_heading(),
            Event::Start(Tag::Paragraph | Tag::Item) => {
                self.said.clear();
                self.behind_link = None;
            }
            Event::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. }) => {
                // "Heading" in [file.md](file.md)
                let section = self.said.strip_suffix("\" in ").and_then(|before| before.rsplit_once('"'));
                let section = section.map(|(_, section)| section.to_owned());
                self.document.links.push(Link { line, target: dest_url.to_string(), section });
            }
            Event::End(TagEnd::Link) => self.behind_link = Some(String::new()),
            Event::Start(Tag::CodeBlock(kind)) => {
                let info = if let CodeBlockKind::Fenced(info) = kind { info.to_string() } else { String::new() };
                self.block = Some(Block { line, info, text: String::new() });
            }
            Event::End(TagEnd::CodeBlock) => self.document.blocks.extend(self.block.take()),
            Event::Start(Tag::TableHead | Tag::TableRow) => self.cells.clear(),
            Event::Start(Tag::TableCell) => {
                self.cells.push(Cell::default());
                self.in_cell = true;
                self.said.clear();
            }
            Event::End(TagEnd::TableCell) => self.in_cell = false,
            Event::End(TagEnd::TableHead) => {
                self.head = self.cells.iter().map(|cell| cell.text.clone()).collect();
                self.row(line);
            }
            Event::End(TagEnd::TableRow) => self.row(line),
            Event::Text(text) => self.text(&text),
            Event::Code(code) => {
                if self.in_cell
                    && let Some(cell) = self.cells.last_mut()
                {
                    cell.spans.push(code.to_string());
                }
                self.document.spans.push((line, code.to_string()));
                self.text(&code);
            }
            Event::SoftBreak | Event::HardBreak => self.text(" "),
            _ => {}
        }
    }

    fn text(&mut self, text: &str) {
        if let Some(block) = &mut self.block {
            block.text.push_str(text);
            return;
        }
        if let Some(heading) = &mut self.heading {
            heading.text.push_str(text);
        }
        if self.in_cell
            && let Some(cell) = self.cells.last_mut()
        {
            cell.text.push_str(text);
        }
        self.said.push_str(text);
        // [file.md](file.md), "Heading"
        let Some(behind) = &mut self.behind_link else { return };
        behind.push_str(text);
        let named = behind.strip_prefix(", \"").map(|rest| rest.split_once('"'));
        if let (Some(Some((section, _))), Some(link)) = (named, self.document.links.last_mut()) {
            link.section = Some(section.to_owned());
        }
        if behind.len() > 2 && !matches!(named, Some(None)) {
            self.behind_link = None;
        }
    }

    fn row(&mut self, line: usize) {
        let heading = self.document.headings.last().map(|heading| heading.text.clone()).unwrap_or_default();
        let (head, cells) = (self.head.clone(), std::mem::take(&mut self.cells));
        self.document.rows.push(Row { line, heading, head, cells });
    }

    fn end_heading(&mut self) {
        let Some(mut heading) = self.heading.take() else { return };
        let anchor = anchor(&heading.text);
        let times = self.anchors.entry(anchor.clone()).or_insert(0);
        heading.anchor = if *times == 0 { anchor } else { format!("{anchor}-{times}") };
        *times += 1;
        self.document.headings.push(heading);
    }
}

/// GitHub's anchor of a heading: lower case, without marks, `-` for spaces.
fn anchor(heading: &str) -> String {
    let kept = heading.to_lowercase();
    let kept = kept.chars().filter(|letter| letter.is_alphanumeric() || matches!(letter, ' ' | '-' | '_'));
    kept.map(|letter| if letter == ' ' { '-' } else { letter }).collect()
}
