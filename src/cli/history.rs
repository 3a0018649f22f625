//! `vpn_stat -history`: the account book as text, JSON or CSV.

use std::fmt::Write;

use serde_json::{Value, json};

use super::names::{date, key, net_number, unit_name};
use super::{Answer, Words};
use crate::sdk::clock;
use crate::sdk::net::Net;
use crate::server::{self, Filter, History};
use vpn_core::book::{Entry, Kind, Ledger, Sums};

const EXPECTED: &str =
    "-history [-json | -csv] [-net <name>] [-client <first digits of 0x..>] [-since <time>] [-limit <number>]";
const TIME_EXPECTED: &str = "a number with s, m, h or d for a time that long ago, or a day such as 2026-11-29";
/// The entries that are shown unless the command says how many.
const LIMIT: usize = 100;

/// Runs the command.
pub(super) fn run(words: &[String]) -> Answer {
    match answer(words) {
        Ok(text) => Answer::new(0, text),
        Err(refusal) => refusal,
    }
}

fn answer(words: &[String]) -> Result<String, Answer> {
    let mut words = Words::after_name(words);
    let (mut is_json, mut is_csv) = (false, false);
    let mut filter = Filter { net: None, client: String::new(), since: 0, limit: LIMIT };
    while let Some(word) = words.next() {
        match word {
            "-history" => {}
            "-json" => is_json = true,
            "-csv" => is_csv = true,
            "-net" => filter.net = Some(net_number(words.value(word, "the name of a network")?)?),
            "-client" => filter.client = client(words.value(word, "the first digits of a key's hash")?)?,
            "-since" => filter.since = since(words.value(word, TIME_EXPECTED)?, clock::wall())?,
            "-limit" => filter.limit = limit(words.value(word, "a number")?)?,
            other => return Err(Answer::new(-1, format!("parameter {other:?} not recognized; expected {EXPECTED}"))),
        }
    }
    if is_json && is_csv {
        return Err(Answer::new(-1, "parameters -json and -csv exclude each other; expected one of them"));
    }
    let history = server::history(&filter).ok_or_else(|| {
        Answer::new(-1, "no account book: the VPN service does not run, or [srv_vpn] account_book is 0")
    })?;
    Ok(match (is_json, is_csv) {
        (true, _) => as_json(&history).to_string(),
        (_, true) => as_csv(&history),
        _ => as_text(&history),
    })
}

/// Reads the first digits of a key's hash, with or without 0x.
fn client(text: &str) -> Result<String, Answer> {
    let digits = text.strip_prefix("0x").unwrap_or(text);
    if digits.len() <= 64 && !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return Ok(digits.to_owned());
    }
    Err(Answer::new(-1, format!("invalid parameter -client {text:?}; expected 1 to 64 hexadecimal digits")))
}

fn limit(text: &str) -> Result<usize, Answer> {
    let number = text.parse().ok().filter(|_| text.bytes().all(|digit| digit.is_ascii_digit()));
    number.ok_or_else(|| Answer::new(-1, format!("invalid parameter -limit {text:?}; expected a number")))
}

/// Reads a time, and returns it in seconds since 1970.
fn since(text: &str, now: u64) -> Result<u64, Answer> {
    ago(text, now)
        .or_else(|| day(text))
        .ok_or_else(|| Answer::new(-1, format!("invalid parameter -since {text:?}; expected {TIME_EXPECTED}")))
}

fn ago(text: &str, now: u64) -> Option<u64> {
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return None,
    };
    let is_plain = number.bytes().all(|digit| digit.is_ascii_digit());
    let number: u64 = number.parse().ok().filter(|_| is_plain)?;
    Some(now.saturating_sub(number.saturating_mul(seconds)))
}

/// Reads a day in UTC, by the inverse of the algorithm of [`date`].
fn day(text: &str) -> Option<u64> {
    let mut parts = text.split('-');
    let mut part = |digits: usize| {
        let part = parts.next().filter(|part| part.len() == digits && part.bytes().all(|digit| digit.is_ascii_digit()));
        part?.parse::<u64>().ok()
    };
    let (year, month, day) = (part(4)?, part(2)?, part(2)?);
    if parts.next().is_some() || year < 1970 || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let shifted = if month > 2 { year } else { year - 1 };
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let days = shifted * 365 + shifted / 4 - shifted / 100 + shifted / 400 + of_year;
    Some((days - 719_468) * 86_400)
}

fn kind(entry: &Entry) -> &'static str {
    match entry.kind {
        Kind::Free => "free",
        Kind::Grace => "grace",
        Kind::Paid => "paid",
    }
}

fn ledger(state: Ledger) -> &'static str {
    match state {
        Ledger::Unsigned => "unsigned",
        Ledger::Waiting => "waits for the ledger",
        Ledger::Settled => "in the ledger",
    }
}

fn unit(entry: &Entry) -> Option<&'static str> {
    entry.unit.map(unit_name)
}

/// Returns a value in datoshi, as the SDK stores it, as a decimal number.
fn value(bytes: &[u8; 32]) -> String {
    let (high, low) = bytes.split_at(16);
    // Divides by ten again and again; the highest byte first.
    let mut number: Vec<u8> = high.iter().rev().chain(low.iter().rev()).copied().collect();
    let mut digits = Vec::new();
    while number.iter().any(|byte| *byte != 0) {
        let mut rest = 0_u16;
        for byte in &mut number {
            let part = rest << 8 | u16::from(*byte);
            (*byte, rest) = ((part / 10) as u8, part % 10);
        }
        digits.push(b'0' + rest as u8);
    }
    if digits.is_empty() { "0".into() } else { digits.iter().rev().map(|digit| char::from(*digit)).collect() }
}

/// Returns a time as `hours:minutes:seconds`.
fn lasted(entry: &Entry) -> String {
    let seconds = entry.updated.saturating_sub(entry.begun);
    format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

/// Replaces what would change a terminal or a table.
fn plain(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() { '?' } else { letter }).collect()
}

fn as_text(history: &History) -> String {
    let mut text = String::new();
    for (number, entry) in &history.entries {
        let _ = write_entry(&mut text, *number, entry);
    }
    if history.entries.is_empty() {
        text.push_str("No services in the account book\n");
    }
    if history.left_out > 0 {
        let _ = writeln!(
            text,
            "{} older ones are left out here, and counted in the sums; -limit shows more",
            history.left_out
        );
    }
    text.push_str("Sums\n");
    text.push_str(&sums_text(&history.sums));
    let [paid, free] = &history.pushed_out;
    if paid.sessions > 0 {
        let _ = writeln!(text, "Paid services that the book has no more");
        text.push_str(&sums_text(paid));
    }
    if free.sessions > 0 {
        let _ = writeln!(text, "Free services that the book has no more\n{}", sums_text(free).trim_end());
    }
    text
}

fn write_entry(text: &mut String, number: u64, entry: &Entry) -> std::fmt::Result {
    writeln!(text, "  {number}: {} at {} (length {})", kind(entry), date(entry.begun), lasted(entry))?;
    writeln!(text, "  client.............{} in {}", key(&entry.client.key), plain(&Net::name_of(entry.client.net)))?;
    writeln!(text, "  order..............{}", key(&entry.order))?;
    if let Some(unit) = unit(entry) {
        writeln!(
            text,
            "  receipts...........{} signed of {}, {} in the ledger; {} {unit} for {} datoshi each",
            entry.signed,
            entry.asked,
            entry.settled,
            entry.units,
            value(&entry.price)
        )?;
        for receipt in &entry.receipts {
            match receipt.ledger {
                Ledger::Unsigned => writeln!(text, "                     unsigned since {}", date(receipt.at))?,
                state => writeln!(text, "                     {} {}", key(&receipt.payment), ledger(state))?,
            }
        }
        writeln!(
            text,
            "  charged............{} {unit}, of {} brought and {} bought",
            entry.charged(),
            entry.brought,
            entry.bought()
        )?;
        writeln!(text, "  left...............{} {unit}", entry.left)?;
    }
    writeln!(text, "  carried............{} bytes up, {} bytes down", entry.up, entry.down)?;
    writeln!(text, "  end................{}\n", entry.end.as_deref().map_or_else(|| "it runs".into(), plain))
}

fn sums_text(sums: &Sums) -> String {
    format!(
        "  services...........{}\n  receipts...........{} signed of {}, {} in the ledger\n  \
         value..............{} datoshi signed, {} in the ledger\n  bought.............{} bytes, {} s\n  \
         charged............{} bytes, {} s\n  carried............{} bytes up, {} bytes down\n",
        sums.sessions,
        sums.signed,
        sums.asked,
        sums.settled,
        sums.signed_value,
        sums.settled_value,
        sums.bought_bytes,
        sums.bought_seconds,
        sums.charged_bytes,
        sums.charged_seconds,
        sums.up,
        sums.down
    )
}

fn as_json(history: &History) -> Value {
    let entries: Vec<_> = history.entries.iter().map(|(number, entry)| entry_json(*number, entry)).collect();
    let [paid, free] = history.pushed_out.each_ref().map(sums_json);
    json!({
        "services": entries,
        "left_out": history.left_out,
        "sums": sums_json(&history.sums),
        "pushed_out": {"paid": paid, "free": free},
    })
}

fn entry_json(number: u64, entry: &Entry) -> Value {
    let receipts: Vec<_> = entry
        .receipts
        .iter()
        .map(|receipt| {
            let payment = (receipt.ledger != Ledger::Unsigned).then(|| key(&receipt.payment));
            let (signed, settled) = (receipt.ledger != Ledger::Unsigned, receipt.ledger == Ledger::Settled);
            json!({"at": receipt.at, "payment": payment, "signed": signed, "in_ledger": settled})
        })
        .collect();
    json!({
        "number": number,
        "service": kind(entry),
        "client": key(&entry.client.key),
        "net": Net::name_of(entry.client.net),
        "order": key(&entry.order),
        "unit": unit(entry),
        "units": entry.units,
        "price": value(&entry.price),
        "begun": entry.begun,
        "updated": entry.updated,
        "end": entry.end,
        "sent": entry.up,
        "received": entry.down,
        "brought": entry.brought,
        "bought": entry.bought(),
        "charged": entry.charged(),
        "left": entry.left,
        "receipts": {
            "asked": entry.asked, "signed": entry.signed, "in_ledger": entry.settled, "last": receipts,
        },
    })
}

fn sums_json(sums: &Sums) -> Value {
    json!({
        "services": sums.sessions,
        "receipts": {"asked": sums.asked, "signed": sums.signed, "in_ledger": sums.settled},
        "value": {"signed": sums.signed_value.to_string(), "in_ledger": sums.settled_value.to_string()},
        "bought": {"bytes": sums.bought_bytes, "seconds": sums.bought_seconds},
        "charged": {"bytes": sums.charged_bytes, "seconds": sums.charged_seconds},
        "sent": sums.up,
        "received": sums.down,
    })
}

const COLUMNS: &str = "number,service,client,net,order,unit,units,price,begun,updated,end,sent,received,brought,bought,\
                       charged,left,receipts_asked,receipts_signed,receipts_in_ledger,payments\n";

fn as_csv(history: &History) -> String {
    let mut text = COLUMNS.to_owned();
    for (number, entry) in &history.entries {
        let payments: Vec<_> = entry.receipts.iter().filter(|receipt| receipt.ledger != Ledger::Unsigned).collect();
        let payments: Vec<_> = payments.iter().map(|receipt| key(&receipt.payment)).collect();
        let _ = writeln!(
            text,
            "{number},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{}",
            kind(entry),
            key(&entry.client.key),
            field(&Net::name_of(entry.client.net)),
            key(&entry.order),
            unit(entry).unwrap_or_default(),
            entry.units,
            value(&entry.price),
            entry.begun,
            entry.updated,
            field(entry.end.as_deref().unwrap_or_default()),
            entry.up,
            entry.down,
            entry.brought,
            entry.bought(),
            entry.charged(),
            entry.left,
            entry.asked,
            entry.signed,
            entry.settled,
            payments.join(" "),
        );
    }
    text
}

/// Quotes a text (RFC 4180). One that a spreadsheet would take for a formula begins with a space.
fn field(text: &str) -> String {
    let lead = if text.starts_with(['=', '+', '-', '@']) { " " } else { "" };
    format!("\"{lead}{}\"", plain(text).replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;
    use vpn_core::meter::{Client, Unit};

    fn words(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    fn entry() -> Entry {
        let mut price = [0; 32];
        price[16] = 10;
        let client = Client { key: [0xab; 32], net: 7 };
        let (unit, units) = (Some(Unit::Bytes), 1000);
        let mut entry = Entry { unit, units, price, ..Entry::new(client, [1; 32], Kind::Paid, 1_795_478_399) };
        entry.sign(1_795_478_400, [2; 32]);
        assert!(entry.settle(&[2; 32]));
        entry.ask(1_795_478_410);
        (entry.left, entry.up, entry.down) = (400, 500, 100);
        entry.close(1_795_478_459, "silent for 60 s, \"gone\"");
        entry
    }

    fn history() -> History {
        let mut sums = Sums::default();
        sums.add(&entry());
        History { entries: vec![(17, entry())], sums, left_out: 2, pushed_out: [sums, Sums::default()] }
    }

    #[test]
    fn a_wrong_word_is_named_with_what_is_expected() {
        let refused = |text: &str, part: &str| {
            let answer = run(&words(text));
            assert!(answer.code == -1 && answer.text.contains(part), "{text}: {answer:?}");
        };
        refused("vpn_stat -history -cvs", "parameter \"-cvs\" not recognized; expected -history [-json | -csv]");
        refused("vpn_stat -history -limit", "parameter -limit has no value; expected a number");
        refused("vpn_stat -history -limit -1", "-limit \"-1\"; expected a number");
        refused("vpn_stat -history -client 0xG", "-client \"0xG\"; expected 1 to 64 hexadecimal digits");
        refused("vpn_stat -history -since yesterday", "-since \"yesterday\"; expected a number with s, m, h or d");
        refused("vpn_stat -history -json -csv", "-json and -csv exclude each other");
        refused("vpn_stat -history", "the VPN service does not run");
    }

    #[test]
    fn times() {
        for (text, expected) in [
            ("90s", 1_795_478_310),
            ("2m", 1_795_478_280),
            ("1d", 1_795_392_000),
            ("1970-01-01", 0),
            ("2000-02-29", 951_782_400),
            ("2100-03-01", 4_107_542_400),
            ("999999999999999d", 0),
        ] {
            assert_eq!(since(text, 1_795_478_400).ok(), Some(expected), "{text}");
        }
        for text in ["", "s", "-1s", "1w", "1", "2026-1-1", "2026-13-01", "2026-01-32", "2026-01-01-01", "1969-01-01"] {
            assert!(since(text, 1_795_478_400).is_err(), "{text}");
        }
    }

    #[test]
    fn values_are_decimal() {
        let mut bytes = [0; 32];
        assert_eq!(value(&bytes), "0");
        bytes[24] = 1;
        assert_eq!(value(&bytes), "18446744073709551616");
        bytes[0] = 1;
        assert_eq!(value(&bytes), "340282366920938463481821351505477763072");
        let most = "115792089237316195423570985008687907853269984665640564039457584007913129639935";
        assert_eq!(value(&[0xff; 32]), most);
    }

    #[test]
    fn an_entry_as_text() {
        let text = as_text(&history());
        let expected = "  receipts...........1 signed of 2, 1 in the ledger; 1000 bytes for 10 datoshi each\n";
        assert!(text.contains(expected), "{text}");
        assert!(text.contains("  charged............600 bytes, of 0 brought and 1000 bought\n"), "{text}");
        assert!(text.contains("  17: paid at Mon, 23 Nov 2026 23:59:59 +0000 (length 00:01:00)\n"), "{text}");
        assert!(text.contains("2 older ones are left out here"), "{text}");
        assert!(text.contains("Paid services that the book has no more\n  services...........1\n"), "{text}");
    }

    #[test]
    fn an_entry_as_json_and_csv() {
        let json = as_json(&history());
        let entry = &json["services"][0];
        assert_eq!((entry["number"].as_u64(), entry["charged"].as_u64()), (Some(17), Some(600)));
        assert_eq!(entry["receipts"]["last"][1]["signed"], false);
        assert_eq!(json["sums"]["value"]["signed"], "10");
        let csv = as_csv(&history());
        let lines: Vec<_> = csv.lines().collect();
        assert_eq!(lines.len(), 2);
        assert!(
            lines[1].contains(",1795478459,\"silent for 60 s, \"\"gone\"\"\",500,100,0,1000,600,400,2,1,1,"),
            "{csv}"
        );
        let header = lines[0].split(',').count();
        let quoted = lines[1].replace("60 s, ", "60 s ");
        assert_eq!(quoted.split(',').count(), header, "{csv}");
        assert_eq!(field("=1+1\n"), "\" =1+1?\"");
    }
}
