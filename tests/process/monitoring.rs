//! The alerts and the dashboard in scripts/ are about what there is: every metric, label and event that they name exists.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use bigbunny::api::endpoints::ENDPOINTS;
use bigbunny::api::errors::ERRORS;
use bigbunny::json;
use bigbunny::log::EVENTS;
use bigbunny::metrics::limits::LIMITS;
use bigbunny::metrics::requests::NO_OPERATION;
use bigbunny::metrics::{Kind, METRICS};

fn script(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts").join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Every name in a text that looks like one of our metrics.
fn metrics_in(text: &str) -> BTreeSet<&str> {
    let words = text.split(|character: char| !character.is_ascii_alphanumeric() && character != '_');
    words.filter(|word| word.starts_with("bbd_")).collect()
}

/// The values that a text compares this label with, regular expressions taken apart.
fn values_of<'t>(text: &'t str, label: &str) -> BTreeSet<&'t str> {
    let mut values = BTreeSet::new();
    for operator in ["=\"", "=~\"", "!=\"", "!~\"", "=\\\"", "=~\\\"", "!=\\\"", "!~\\\""] {
        for (at, start) in text.match_indices(&format!("{label}{operator}")) {
            let value = text[at + start.len()..].split(['"', '\\']).next().unwrap_or_default();
            values.extend(value.split('|'));
        }
    }
    values
}

#[test]
fn alerts_and_dashboard_name_what_there_is() {
    let results: BTreeSet<&str> = ERRORS.iter().map(|row| row.name).chain(["ok", "503"]).collect();
    let operations: BTreeSet<&str> = ENDPOINTS.iter().map(|row| row.name).chain([NO_OPERATION]).collect();
    let limits: BTreeSet<&str> = LIMITS.iter().map(|row| row.name).collect();
    let events: BTreeSet<&str> = EVENTS.iter().map(|row| row.name).collect();
    let roles = BTreeSet::from(["PRIMARY", "SECONDARY", "JOINING"]);
    let mut known: BTreeSet<String> = BTreeSet::new();
    for row in &METRICS {
        match row.kind {
            Kind::Counter | Kind::Gauge => _ = known.insert(row.name.to_owned()),
            Kind::Histogram => known.extend(["_bucket", "_sum", "_count"].map(|part| format!("{}{part}", row.name))),
        }
    }
    for name in ["prometheus-alerts.yml", "prometheus-alerts-test.yml", "grafana-dashboard.json"] {
        let text = script(name);
        let named = metrics_in(&text);
        assert!(named.len() > 10, "{name} names metrics");
        for metric in named {
            assert!(known.contains(metric), "{name}: {metric}");
        }
        for (label, known) in
            [("result", &results), ("operation", &operations), ("limit", &limits), ("event", &events), ("role", &roles)]
        {
            for value in values_of(&text, label) {
                assert!(known.contains(value), "{name}: {label}={value}");
            }
        }
    }
}

#[test]
fn alerts_of_the_map_and_its_manual_name_what_there_is() {
    let known: BTreeSet<&str> = bigbunny::kv::replica::METRICS.iter().map(|row| row.name).collect();
    for name in ["prometheus-map-alerts.yml", "prometheus-map-alerts-test.yml"] {
        let text = script(name);
        let named = metrics_in(&text);
        assert!(named.len() > 5 && named.is_subset(&known), "{name}: {:?}", named.difference(&known));
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("man/bbd-kv.7");
    assert_eq!(metrics_in(&fs::read_to_string(path).unwrap()), known);
    // And a node has them all; those of followers where there are some.
    let dir = crate::support::TempDir::new();
    let node = crate::map::Node::start(&dir, crate::map::free_port());
    let page = node.ask("/metrics?format=prometheus", "").1;
    for row in &bigbunny::kv::replica::METRICS {
        assert!(page.contains(&format!("# HELP {} {}\n# TYPE {} ", row.name, row.help, row.name)), "{page}");
        assert!(row.name.contains("_follower_") || page.contains(&format!("\n{} ", row.name)), "{page}");
    }
}

#[test]
fn every_alert_is_tested() {
    let names = |text: &str, start: &str| -> Vec<String> {
        let lines = text.lines().map(str::trim);
        lines.filter_map(|line| line.strip_prefix(start)).map(str::to_owned).collect()
    };
    for (rules, tests) in [
        ("prometheus-alerts.yml", "prometheus-alerts-test.yml"),
        ("prometheus-map-alerts.yml", "prometheus-map-alerts-test.yml"),
    ] {
        let alerts = names(&script(rules), "- alert: ");
        let tests = script(tests);
        assert!(alerts.len() > 5);
        for alert in alerts {
            assert!(names(&tests, "alertname: ").contains(&alert), "{alert} is raised by no test");
            assert!(tests.contains(&format!("alertname: {alert}}}")), "{alert} is not looked for at healthy nodes");
        }
    }
}

#[test]
fn the_dashboard_is_json_with_a_place_for_every_panel() {
    let text = script("grafana-dashboard.json");
    let mut keys = Vec::new();
    assert_eq!(json::read_object(text.as_bytes(), |key, _| keys.push(key.into_owned())), Ok(true));
    assert!(keys.contains(&"panels".to_owned()) && keys.contains(&"templating".to_owned()), "{keys:?}");
    assert!(text.matches("\"gridPos\"").count() > 20);
}
