//! The sums of both ends and of the ledger, and whether they are equal.

use std::fmt::Write;

use serde_json::{Value, json};
use vpn_core::money::Amount;

use crate::exit::Failure;

/// The bytes of a packet: the last one may not fit into what is left.
const PACKET: u64 = 1500;

/// What was paid and carried.
#[derive(Debug, Default)]
pub(in super::super) struct Report {
    /// The bytes of one receipt, and its price.
    pub(super) units: u64,
    pub(super) price: Amount,
    pub(super) token: &'static str,
    /// What the operator has given the wallet.
    pub(super) funded: Amount,
    /// The receipts that the client has signed.
    pub(super) signed: u64,
    /// The bytes that the client has sent, in part after the end of the service.
    pub(super) sent: u64,
    /// What the server and its ledger say in the end.
    pub(super) ledger: Value,
}

/// Returns an amount of an end's answer.
pub(super) fn amount(value: &Value) -> Amount {
    Amount(value.as_str().and_then(|text| text.parse().ok()).unwrap_or(0))
}

impl Report {
    fn payments(&self) -> u64 {
        self.ledger["payments"].as_u64().unwrap_or(0)
    }

    fn carried(&self) -> u64 {
        self.ledger["carried"].as_u64().unwrap_or(0)
    }

    /// What the receipts that the client has signed cost.
    fn cost(&self) -> Amount {
        Amount(u128::from(self.signed) * self.price.0)
    }

    /// What has left the wallet.
    fn debited(&self) -> Amount {
        let kept = amount(&self.ledger["balance"]).0.saturating_add(amount(&self.ledger["locked"]).0);
        Amount(self.funded.0.saturating_sub(kept))
    }

    /// Fails unless receipts, money and bytes are the same wherever they are counted.
    pub(super) fn require_equal(&self) -> Result<(), Failure> {
        let (signed, payments) = (self.signed, self.payments());
        if signed == 0 || signed != payments {
            return Err(Failure::general(format!(
                "the client has signed {signed} receipts, and the ledger has {payments} payments"
            )));
        }
        let (cost, debited, earned) = (self.cost(), self.debited(), amount(&self.ledger["earned"]));
        if cost != debited || cost != earned {
            return Err(Failure::general(format!(
                "the receipts cost {cost}, the wallet was debited {debited}, and the operator has earned {earned}"
            )));
        }
        let (paid, carried) = (signed * self.units, self.carried());
        if paid.abs_diff(carried) >= PACKET {
            return Err(Failure::general(format!("{paid} bytes were paid, and {carried} were carried")));
        }
        Ok(())
    }

    pub(in super::super) fn to_json(&self) -> String {
        let report = json!({
            "ok": true,
            "token": self.token,
            "price": self.price.to_string(),
            "receipt_bytes": self.units,
            "funded": self.funded.to_string(),
            "client": {"receipts": self.signed, "cost": self.cost().to_string(), "sent_bytes": self.sent},
            "server": {"paid_bytes": self.signed * self.units, "carried_bytes": self.carried()},
            "ledger": {
                "payments": self.payments(),
                "debited": self.debited().to_string(),
                "earned": amount(&self.ledger["earned"]).to_string(),
                "balance": amount(&self.ledger["balance"]).to_string(),
                "locked": amount(&self.ledger["locked"]).to_string(),
            },
        });
        format!("{report:#}")
    }

    pub(in super::super) fn to_table(&self) -> String {
        let (token, units) = (self.token, self.units);
        let mut table = String::new();
        let mut row = |name: &str, client: String, ledger: String, server: String| {
            let _ = writeln!(table, "  {name:<10} {client:>18} {ledger:>18} {server:>18}");
        };
        row("", "client".into(), "ledger".into(), "server".into());
        row("receipts", self.signed.to_string(), self.payments().to_string(), String::new());
        let money = |amount: Amount| format!("{amount} {token}");
        row("money", money(self.cost()), money(self.debited()), money(amount(&self.ledger["earned"])));
        row("bytes", self.sent.to_string(), (self.payments() * units).to_string(), self.carried().to_string());
        let left = amount(&self.ledger["balance"]);
        let _ = write!(
            table,
            "\n  Money: what the client signed, what left its wallet, what the operator earned.\n  Bytes: sent (in part \
             after the end of the service), paid, carried.\n  Of {} the wallet has {} left.",
            money(self.funded),
            money(left)
        );
        table
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(signed: u64, payments: u64, balance: &str, earned: &str, carried: u64) -> Report {
        let price = Amount(10);
        let ledger =
            json!({"balance": balance, "locked": "0", "earned": earned, "payments": payments, "carried": carried});
        Report { units: 1_000_000, price, token: "CELL", funded: Amount(50), signed, sent: 5_100_000, ledger }
    }

    #[test]
    fn what_differs_is_said() {
        assert!(report(5, 5, "0", "50", 5_000_000).require_equal().is_ok());
        assert!(report(4, 4, "10", "40", 3_999_000).require_equal().is_ok());
        for (wrong, says) in [
            (report(0, 0, "50", "0", 0), "signed 0 receipts"),
            (report(5, 4, "10", "40", 4_000_000), "signed 5 receipts, and the ledger has 4 payments"),
            (report(5, 5, "10", "50", 5_000_000), "the wallet was debited"),
            (report(5, 5, "0", "40", 5_000_000), "the operator has earned"),
            (report(5, 5, "0", "50", 5_002_000), "5000000 bytes were paid, and 5002000 were carried"),
            (report(5, 5, "0", "50", 4_000_000), "and 4000000 were carried"),
        ] {
            let said = wrong.require_equal().unwrap_err().message;
            assert!(said.contains(says), "{said}");
        }
    }

    #[test]
    fn the_table_has_the_sums_side_by_side() {
        let table = report(5, 5, "0", "50", 5_000_000).to_table();
        let row = |name: &str| {
            let line = table.lines().find(|line| line.trim_start().starts_with(name)).unwrap().to_owned();
            line.split_ascii_whitespace().map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(row("receipts"), ["receipts", "5", "5"]);
        assert_eq!(row("bytes"), ["bytes", "5100000", "5000000", "5000000"]);
        let json: Value = serde_json::from_str(&report(5, 5, "0", "50", 5_000_000).to_json()).unwrap();
        assert_eq!((&json["ok"], &json["client"]["receipts"]), (&json!(true), &json!(5)));
    }
}
