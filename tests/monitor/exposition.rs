//! A reader of OpenMetrics' text that refuses whatever the specification does not allow (OpenMetrics 1.0, "Text Format").

use std::collections::{BTreeMap, BTreeSet};

/// The labels of a sample.
pub(crate) type Labels = BTreeMap<String, String>;

/// What a scrape has returned.
#[derive(Debug, Default)]
pub(crate) struct Exposition {
    pub(crate) families: BTreeMap<String, Family>,
}

/// A family of samples.
#[derive(Debug, Default)]
pub(crate) struct Family {
    pub(crate) kind: String,
    pub(crate) unit: String,
    pub(crate) help: String,
    /// The full name, the labels, the value.
    pub(crate) samples: Vec<(String, Labels, f64)>,
}

/// What the names of a kind's samples add to the family's.
fn suffixes(kind: &str) -> &'static [&'static str] {
    match kind {
        "counter" => &["_total"],
        "gauge" => &[""],
        "histogram" => &["_bucket", "_count", "_sum"],
        "info" => &["_info"],
        _ => &[],
    }
}

impl Exposition {
    /// Reads a text. An error names the line and the rule.
    pub(crate) fn parse(text: &str) -> Result<Exposition, String> {
        let body = text.strip_suffix("# EOF\n").ok_or("the last line is not `# EOF`")?;
        let (mut all, mut current) = (Exposition::default(), String::new());
        for line in body.split_terminator('\n') {
            let fail = |rule: &str| format!("{rule}: {line:?}");
            if let Some(comment) = line.strip_prefix("# ") {
                let mut words = comment.splitn(3, ' ');
                let (Some(key), Some(name), text) = (words.next(), words.next(), words.next().unwrap_or_default())
                else {
                    return Err(fail("a comment has a keyword and a name"));
                };
                if name != current {
                    if all.families.contains_key(name) {
                        return Err(fail("a family does not stand in two places"));
                    }
                    current = name.to_owned();
                }
                let family = all.families.entry(current.clone()).or_default();
                let field = match key {
                    "TYPE" => &mut family.kind,
                    "UNIT" => &mut family.unit,
                    "HELP" => &mut family.help,
                    _ => return Err(fail("the keyword is TYPE, UNIT or HELP")),
                };
                if !field.is_empty() || text.is_empty() {
                    return Err(fail("each stands once and is not empty"));
                }
                *field = text.to_owned();
                if !family.samples.is_empty() {
                    return Err(fail("it stands before the samples"));
                }
                continue;
            }
            let (name, labels, value) = sample(line).map_err(|rule| fail(&rule))?;
            let family = all.families.get_mut(&current).ok_or_else(|| fail("a sample has a family"))?;
            let suffix = name.strip_prefix(&current).ok_or_else(|| fail("it is in another family"))?;
            if !suffixes(&family.kind).contains(&suffix) {
                return Err(fail("the name does not fit the type"));
            }
            family.samples.push((name, labels, value));
        }
        all.families
            .iter()
            .try_for_each(|(name, family)| family.check(name).map_err(|rule| format!("{name}: {rule}")))?;
        Ok(all)
    }

    /// Returns the sample with this full name and these labels.
    #[track_caller]
    pub(crate) fn value(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let wanted: Labels = labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let samples = self.families.values().flat_map(|family| &family.samples);
        let mut found = samples.filter(|(has, labels, _)| has == name && *labels == wanted);
        found.next().unwrap_or_else(|| panic!("no {name} with {labels:?}")).2
    }

    /// Returns every sample that must never fall, by its name and labels.
    pub(crate) fn growing(&self) -> BTreeMap<(String, Labels), f64> {
        let of = |family: &&Family| matches!(family.kind.as_str(), "counter" | "histogram");
        let samples = self.families.values().filter(of).flat_map(|family| family.samples.iter().cloned());
        samples.map(|(name, labels, value)| ((name, labels), value)).collect()
    }
}

impl Family {
    fn check(&self, name: &str) -> Result<(), String> {
        if suffixes(&self.kind).is_empty() {
            return Err(format!("type {:?}", self.kind));
        }
        if !is_name(name, true) || !self.unit.is_empty() && !name.ends_with(&format!("_{}", self.unit)) {
            return Err(format!("the name does not end with the unit {:?}", self.unit));
        }
        if self.help.is_empty() || self.kind == "info" && !self.unit.is_empty() {
            return Err("help is missing, or an info has a unit".into());
        }
        if self.samples.is_empty() {
            return Err("no sample".into());
        }
        let mut seen = BTreeSet::new();
        for (full, labels, value) in &self.samples {
            if !seen.insert((full, labels)) {
                return Err(format!("{full} {labels:?} stands twice"));
            }
            let grows = self.kind == "counter" || self.kind == "histogram";
            if value.is_nan() || grows && *value < 0.0 || self.kind == "info" && *value != 1.0 {
                return Err(format!("{full} {labels:?} is {value}"));
            }
        }
        if self.kind == "histogram" { self.check_histogram() } else { Ok(()) }
    }

    /// The classes of each set of labels rise in bound and count, and the last one has all.
    fn check_histogram(&self) -> Result<(), String> {
        let mut classes: BTreeMap<Labels, Vec<(f64, f64)>> = BTreeMap::new();
        let mut counts = BTreeMap::new();
        for (full, labels, value) in &self.samples {
            let mut labels = labels.clone();
            let bound = labels.remove("le");
            if full.ends_with("_bucket") {
                let bound = bound.ok_or("a bucket has no le")?;
                let bound =
                    if bound == "+Inf" { f64::INFINITY } else { bound.parse().map_err(|_| "le is no number")? };
                classes.entry(labels).or_default().push((bound, *value));
            } else if full.ends_with("_count") {
                counts.insert(labels, *value);
            }
        }
        for (labels, classes) in classes {
            let rises = classes.windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1 <= pair[1].1);
            let last = classes.last().filter(|(bound, _)| *bound == f64::INFINITY).map(|(_, count)| count);
            if !rises || last.is_none() || last != counts.get(&labels) {
                return Err(format!("the classes of {labels:?} are {classes:?}, count {:?}", counts.get(&labels)));
            }
        }
        Ok(())
    }
}

fn is_name(text: &str, with_colon: bool) -> bool {
    let fits = |letter: char| letter.is_ascii_alphanumeric() || letter == '_' || with_colon && letter == ':';
    !text.is_empty() && text.chars().all(fits) && !text.starts_with(|letter: char| letter.is_ascii_digit())
}

/// Reads `name{labels} value`, without a time stamp.
fn sample(line: &str) -> Result<(String, Labels, f64), String> {
    let end = line.find(['{', ' ']).ok_or("a sample has a value")?;
    let (name, rest) = line.split_at(end);
    if !is_name(name, true) {
        return Err("the name".into());
    }
    let (labels, rest) = match rest.strip_prefix('{') {
        Some(inside) => labels(inside)?,
        None => (Labels::new(), rest),
    };
    let text = rest.strip_prefix(' ').filter(|text| !text.contains(' ')).ok_or("one space, then the value alone")?;
    let value = text.parse().map_err(|_| "the value is no number")?;
    Ok((name.to_owned(), labels, value))
}

/// Reads labels up to their closing brace, and returns what follows.
fn labels(mut rest: &str) -> Result<(Labels, &str), String> {
    let mut found = Labels::new();
    loop {
        let (name, behind) = rest.split_once("=\"").ok_or("a label has a value in quotes")?;
        if !is_name(name, false) || name.starts_with("__") {
            return Err(format!("the label's name {name:?}"));
        }
        let (mut value, mut letters) = (String::new(), behind.char_indices());
        let end = loop {
            match letters.next().ok_or("the quotes are not closed")? {
                (at, '"') => break at,
                (_, '\\') => value.push(match letters.next() {
                    Some((_, 'n')) => '\n',
                    Some((_, letter @ ('\\' | '"'))) => letter,
                    _ => return Err("an escape is \\n, \\\\ or \\\"".into()),
                }),
                (_, letter) => value.push(letter),
            }
        };
        if found.insert(name.to_owned(), value).is_some() {
            return Err(format!("the label {name} stands twice"));
        }
        rest = &behind[end + 1..];
        match rest.split_at_checked(1) {
            Some((",", behind)) => rest = behind,
            Some(("}", behind)) => return Ok((found, behind)),
            _ => return Err("a comma or a brace follows a label".into()),
        }
    }
}

/// A reader that takes everything would prove nothing.
#[test]
fn what_the_specification_forbids_is_refused() {
    let good = "# HELP a_seconds Helps\n# TYPE a_seconds counter\n# UNIT a_seconds seconds\n\
                a_seconds_total{b=\"c\\\"\"} 1.5\na_seconds_total 2\n# HELP h Helps\n# TYPE h histogram\n\
                h_bucket{le=\"1.0\"} 1\nh_bucket{le=\"+Inf\"} 3\nh_count 3\nh_sum 9\n# EOF\n";
    assert_eq!(Exposition::parse(good).unwrap().value("a_seconds_total", &[("b", "c\"")]), 1.5);
    for (from, to) in [
        ("# EOF\n", ""),
        ("# EOF\n", "# EOF\n\n"),
        ("# HELP h", "\n# HELP h"),
        ("a_seconds_total 2", "a_seconds 2"),
        ("a_seconds_total 2", "a_seconds_total -2"),
        ("a_seconds_total 2", "a_seconds_total two"),
        ("a_seconds_total 2", "a_seconds_total  2"),
        ("a_seconds_total 2", "a_seconds_total{b=\"c\\\"\"} 2"),
        ("a_seconds_total 2", "a_seconds_total{1b=\"c\"} 2"),
        ("a_seconds_total 2", "a_seconds_total{b=\"c} 2"),
        ("a_seconds_total 2", "other_total 2"),
        ("UNIT a_seconds seconds", "UNIT a_seconds bytes"),
        ("TYPE h histogram", "TYPE h summit"),
        ("# HELP h Helps\n", "# HELP h Helps\n# HELP h Helps\n"),
        ("# HELP h Helps\n", ""),
        ("h_count 3", "h_count 4"),
        ("{le=\"1.0\"} 1", "{le=\"1.0\"} 4"),
        ("le=\"+Inf\"", "le=\"2\""),
    ] {
        assert!(good.contains(from), "{from}");
        let bad = good.replacen(from, to, 1);
        assert!(Exposition::parse(&bad).is_err(), "{from:?} -> {to:?}");
    }
}
