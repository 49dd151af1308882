//! The planted bugs. One long table: a line more is a mistake more that the checker is proved to see.

use super::{Bug, Lua, Sql};
use crate::nemesis::{Fault, Planned};

const HOLD: &str = "hold: takes units";
const JOIN: &str = "join: gives newcomers";
const DOUBT: &str = "hold: writes down that the store is doubted";

const STOCK_IN_HOLD: &str = "if wanted > available then return {'sold_out', known} end";

const fn code(name: &'static str, breaks: &'static str, caught_by: &'static [&'static str]) -> Bug {
    Bug { name, breaks, caught_by, in_code: true, lua: &[], sql: &[], needs: &[] }
}

/// All of them.
pub const BUGS: &[Bug] = &[
    // ── Units ──────────────────────────────────────────────────────────────────────────────────────────────
    Bug {
        in_code: false,
        lua: &[Lua { script: HOLD, from: STOCK_IN_HOLD, to: "" }],
        sql: &[
            Sql::Function {
                name: "place_holds",
                from: "ELSIF e.quantity > free_units - taken THEN",
                to: "ELSIF false THEN",
            },
            Sql::Statement("ALTER TABLE deal DROP CONSTRAINT deal_never_oversold"),
        ],
        ..code("stock-is-not-compared", "units are taken without a look at how many there are", &["I1"])
    },
    Bug {
        // Nobody can pay, so what is held stays held while Redis is filled anew.
        needs: &[
            Planned { at_ms: 500, fault: Fault::Kill { whom: "payment-adapter", down_ms: 9_000 } },
            Planned { at_ms: 2_500, fault: Fault::FlushAll },
        ],
        ..code("rebuild-forgets-holds", "a rebuilt fast stock offers what is held", &["I1"])
    },
    Bug {
        in_code: false,
        sql: &[Sql::Function {
            name: "purchase_step",
            from: "sold = sold + sold_by WHERE",
            to: "sold = sold + sold_by + least(sold_by, 0) WHERE",
        }],
        ..code("refund-returns-units-twice", "a refund gives the units back twice", &["I5"])
    },
    Bug {
        in_code: false,
        sql: &[Sql::Function {
            name: "purchase_step",
            from: "IF held_by <> 0 OR sold_by <> 0 THEN",
            to: "IF (held_by <> 0 OR sold_by <> 0) AND to_state <> 'released' THEN",
        }],
        ..code("release-keeps-the-units", "an order ends and its units are not free", &["I5"])
    },
    Bug {
        // Between the two gates; of the shoppers of that moment one may give up.
        needs: &[Planned {
            at_ms: 0,
            fault: Fault::FailPoint { role: "deal-service", point: "R1.after", hit: 6 },
        }],
        ..code("sweeper-sleeps", "units of a hold that was never committed stay taken", &["I5"])
    },
    code("hold-never-expires", "a hold is not ended at its deadline", &["I4"]),
    Bug {
        in_code: false,
        lua: &[Lua {
            script: HOLD,
            from: "if (tonumber(bought or '0') or limit) + wanted > limit then return {'limit', known} end",
            to: "",
        }],
        sql: &[
            Sql::Function { name: "place_holds", from: "WHERE a.units + excluded.units <= a.unit_limit", to: "" },
            Sql::Statement("ALTER TABLE allowance DROP CONSTRAINT allowance_within_limit"),
        ],
        ..code("limit-is-not-compared", "one person takes more than the limit", &["I6"])
    },
    Bug {
        in_code: false,
        lua: &[Lua {
            script: HOLD,
            from: "    return {'again', prior, s[2], now_text}",
            to: "    redis.call('HINCRBY', KEYS[4], account, quantity)\n    return {'again', prior, s[2], now_text}",
        }],
        ..code("limit-counts-a-retry-again", "a repeated request uses the limit up once more", &["I6"])
    },
    code("rebuild-forgets-counts", "a rebuilt fast stock forgets who has how many", &["I6"]),
    Bug {
        in_code: false,
        lua: &[Lua {
            script: HOLD,
            from: STOCK_IN_HOLD,
            to: "if wanted > available or redis.call('HEXISTS', KEYS[5], 'gone') == 1 then \
                 redis.call('HSET', KEYS[5], 'gone', '1') return {'sold_out', known} end",
        }],
        ..code("sold-out-sticks", "once sold out, a deal stays so though units come back", &["I15"])
    },
    // ── Requests ───────────────────────────────────────────────────────────────────────────────────────────
    Bug {
        in_code: false,
        lua: &[Lua { script: HOLD, from: "\nif prior then\n", to: "\nif false then\n" }],
        sql: &[
            Sql::Function { name: "place_holds", from: "IF FOUND THEN", to: "IF false THEN" },
            Sql::Statement("ALTER TABLE orders DROP CONSTRAINT orders_account_id_idempotency_key_key"),
        ],
        ..code("no-operation-id", "a repeated hold takes units again", &["I10"])
    },
    code("key-is-ignored", "a payment, cancel or refund is done again for the same key", &["I10"]),
    Bug {
        in_code: false,
        lua: &[Lua { script: HOLD, from: "if had ~= quantity and state ~= 's' then return {'reused'} end", to: "" }],
        sql: &[Sql::Function {
            name: "place_holds",
            from: "IF prior.fingerprint = e.fingerprint THEN",
            to: "IF true THEN",
        }],
        ..code("key-serves-another-request", "the answer to another request with the same key is given", &["I10"])
    },
    Bug {
        in_code: false,
        lua: &[Lua { script: HOLD, from: "local op = account .. ':' .. key", to: "local op = key" }],
        sql: &[
            Sql::Function { name: "place_holds", from: "IF place_plain_holds(batch, d, now_ms) THEN", to: "IF false THEN" },
            Sql::Function {
                name: "place_holds",
                from: "WHERE o.account_id = e.account AND o.idempotency_key = e.key;",
                to: "WHERE o.idempotency_key = e.key LIMIT 1;",
            },
        ],
        ..code("key-without-its-owner", "two people with the same key share an order", &["I13"])
    },
    Bug {
        in_code: false,
        sql: &[Sql::Statement("ALTER DATABASE floodgate SET synchronous_commit = off")],
        ..code("acknowledged-before-durable", "a yes is said before the disk has it", &["I13"])
    },
    code("cancel-is-not-committed", "a cancel is answered and its transaction forgotten", &["I13"]),
    code("key-not-kept-with-the-order", "an order is kept under a key that nobody used", &["I14"]),
    code("provider-gets-another-reference", "the provider is told another order's name", &["I14"]),
    // ── Money ──────────────────────────────────────────────────────────────────────────────────────────────
    code("unknown-is-failed", "a lost answer to a charge counts as a no", &["I2"]),
    code("refund-sent-again-blindly", "a refund without an answer is sent again, and the refusal believed", &["I2", "I11"]),
    code("unknown-is-paid", "a lost answer to a charge counts as a yes", &["I3"]),
    code("return-is-believed", "who comes back from the provider's page has paid", &["I3"]),
    code("amount-not-compared", "the provider's sum is not compared with the order's", &["I3", "I11"]),
    Bug {
        sql: &[Sql::Function {
            name: "payment_step",
            from: "'cancelled>captured'",
            to: "'cancelled>captured', 'cancelled>authorized'",
        }],
        ..code("dead-payment-revived", "the payment of an order that was given back is charged", &["I7"])
    },
    Bug {
        sql: &[Sql::Function {
            name: "place_holds",
            from: "e.amount <> d.price_minor * e.quantity OR",
            to: "",
        }],
        ..code("price-not-multiplied", "two units cost as much as one", &["I9"])
    },
    code("refund-is-not-booked", "money went back and the payment does not know", &["I11", "I16"]),
    Bug {
        sql: &[
            Sql::Statement("ALTER TABLE payment DROP CONSTRAINT payment_never_refunds_more"),
            Sql::Statement(
                "CREATE FUNCTION planted() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN
                     IF NEW.refunded_minor > OLD.refunded_minor THEN NEW.refunded_minor := NEW.refunded_minor + 100; END IF;
                     RETURN NEW; END';
                 CREATE TRIGGER planted BEFORE UPDATE ON payment FOR EACH ROW EXECUTE FUNCTION planted()",
            ),
        ],
        in_code: false,
        ..code("refund-books-a-fee", "more is booked as given back than was", &["I16"])
    },
    // ── The ledger's own order ─────────────────────────────────────────────────────────────────────────────
    code("release-is-not-told", "the fast stock does not hear of an order's end", &["I12"]),
    Bug {
        in_code: false,
        sql: &[Sql::Function {
            name: "order_step",
            from: "VALUES (NEW.id, OLD.state, NEW.state, NEW.reason, NEW.updated_at_ms, NEW.step_actor, NEW.step_detail);",
            to: "SELECT NEW.id, OLD.state, NEW.state, NEW.reason, NEW.updated_at_ms, NEW.step_actor, NEW.step_detail \
                 WHERE NEW.state <> 'released';",
        }],
        ..code("step-without-history", "the end of an order is not written into its history", &["I17"])
    },
    code("step-left-out-of-the-chain", "a step counts as sealed and is not in the audit chain", &["verify"]),
    // ── The way in ─────────────────────────────────────────────────────────────────────────────────────────
    Bug {
        in_code: false,
        lua: &[Lua {
            script: JOIN,
            from: "  next_number = number + 1\n",
            to: "  if number % 5 ~= 0 or redis.call('HINCRBY', room, 'planted', 1) % 2 == 0 then \
                 next_number = number + 1 end\n",
        }],
        ..code("number-given-twice", "two people get the same number in line", &["S1"])
    },
    Bug {
        in_code: false,
        lua: &[Lua {
            script: HOLD,
            from: "if holder and holder ~= account then return {'stranger', known} end",
            to: "",
        }],
        sql: &[Sql::Function { name: "place_holds", from: "AND h.account_id <> e.account)", to: "AND false)" }],
        ..code("pass-serves-two", "a pass that was handed over buys for two people", &["S1"])
    },
    code("pass-of-another-room", "a pass opens every room", &["S2"]),
    code("pass-never-ends", "a pass that is over still opens", &["S2"]),
    // ── How it runs ────────────────────────────────────────────────────────────────────────────────────────
    code("descriptor-per-request", "each request leaves a descriptor open", &["O1"]),
    code("replay-counted-as-new", "a repeated answer is counted as a new hold", &["O2"]),
    code("series-per-person", "a metric has a series per shopper", &["O3"]),
    code("restart-is-slow", "the deal service takes its time to start", &["O4"]),
    Bug {
        in_code: false,
        lua: &[Lua {
            script: DOUBT,
            from: "local hold_ms = tonumber(ARGV[3])",
            to: "local hold_ms = tonumber(ARGV[3]) * 20",
        }],
        ..code("line-stays-closed-after-a-loss", "after a loss of the store nobody is called for minutes", &["O4"])
    },
];
