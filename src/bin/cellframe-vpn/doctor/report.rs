//! The findings as text and as JSON.

use anstyle::{AnsiColor, Style};
use serde_json::{Value, json};

use super::finding::{Finding, Level};

/// The width of the column with the names of checks.
const NAME: usize = 14;
/// That of the column with the levels.
const LEVEL: usize = 7;

fn style(level: Level) -> Style {
    match level {
        Level::Ok => AnsiColor::Green.on_default(),
        Level::Unknown => AnsiColor::Cyan.on_default(),
        Level::Warning => AnsiColor::Yellow.on_default().bold(),
        Level::Fault => AnsiColor::Red.on_default().bold(),
    }
}

/// Formats the findings, with colours; the output takes these away where they do not belong.
pub(super) fn text(roles: &str, findings: &[Finding]) -> String {
    let mut text = format!("this machine as a {roles}\n\n");
    let indent = " ".repeat(LEVEL + 1 + NAME + 1);
    let dim = Style::new().dimmed();
    for finding in findings {
        let (style, word) = (style(finding.level), finding.level.word());
        text += &format!("{style}{word:LEVEL$}{style:#} {:NAME$} {}\n", finding.check, finding.found);
        if !finding.follows.is_empty() {
            text += &format!("{indent}{dim}so:{dim:#} {}\n", finding.follows);
        }
        for remedy in &finding.remedies {
            text += &format!("{indent}{dim}do:{dim:#} {remedy}\n");
        }
    }
    text + "\n" + &sum(findings)
}

fn count(findings: &[Finding], level: Level) -> usize {
    findings.iter().filter(|finding| finding.level == level).count()
}

fn sum(findings: &[Finding]) -> String {
    let number = |level, one: &str, more: &str| {
        let count = count(findings, level);
        format!("{count} {}", if count == 1 { one } else { more })
    };
    let faults = number(Level::Fault, "fault", "faults");
    let warnings = number(Level::Warning, "warning", "warnings");
    format!("{faults}, {warnings}, {} ok, {} not known", count(findings, Level::Ok), count(findings, Level::Unknown))
}

/// Formats the findings for programs.
pub(super) fn json(is_server: bool, is_client: bool, findings: &[Finding]) -> Value {
    json!({
        "ok": count(findings, Level::Fault) == 0,
        "server": is_server,
        "client": is_client,
        "faults": count(findings, Level::Fault),
        "warnings": count(findings, Level::Warning),
        "unknown": count(findings, Level::Unknown),
        "findings": findings.iter().map(Finding::as_json).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings() -> Vec<Finding> {
        vec![Finding::ok("tun", "there"), Finding::fault("forwarding", "off", "nothing works", &["sysctl -w x=1"])]
    }

    #[test]
    fn a_fault_has_what_follows_and_what_helps() {
        let text = anstream::adapter::strip_str(&text("server", &findings())).to_string();
        let expected = "this machine as a server\n\n\
                        ok      tun            there\n\
                        fault   forwarding     off\n\
                        \x20                      so: nothing works\n\
                        \x20                      do: sysctl -w x=1\n\n\
                        1 fault, 0 warnings, 1 ok, 0 not known";
        assert_eq!(text, expected);
    }

    #[test]
    fn programs_get_everything() {
        let value = json(true, false, &findings());
        assert_eq!((&value["ok"], &value["faults"]), (&false.into(), &1.into()));
        assert_eq!(value["findings"][1]["remedies"][0], "sysctl -w x=1");
        assert_eq!(value["findings"][0]["follows"], Value::Null);
    }
}
