//! Owns the reading of `/metrics`, for commands that show or judge what it says. Does not own what there is: see the daemon's table.

use super::client::{Ask, Client};
use super::exit::Failure;

/// One line of the page.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Sample {
    name: String,
    labels: Vec<(String, String)>,
    /// Its value.
    pub(super) value: f64,
}

impl Sample {
    /// Whether it is one of this metric.
    #[cfg(test)]
    pub(super) fn is(&self, name: &str) -> bool {
        self.name == name
    }

    /// The value of a label.
    pub(super) fn label(&self, name: &str) -> Option<&str> {
        self.labels.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }
}

/// What a page says.
#[derive(Clone, Debug, Default)]
pub(super) struct MetricsPage {
    samples: Vec<Sample>,
}

impl MetricsPage {
    /// Asks the daemon for one.
    pub(super) fn fetch(client: &mut Client) -> Result<Self, Failure> {
        let reply = client.ask(&Ask::post("/metrics".to_owned()).method("GET"))?.success()?;
        Ok(Self::parse(&String::from_utf8_lossy(&reply.body)))
    }

    /// Reads a page. Lines that are no samples are passed over, so that a newer daemon can be read too.
    pub(super) fn parse(text: &str) -> Self {
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        Self { samples: lines.filter_map(parse_sample).collect() }
    }

    /// All samples of a metric.
    pub(super) fn all<'p>(&'p self, name: &'p str) -> impl Iterator<Item = &'p Sample> {
        self.samples.iter().filter(move |sample| sample.name == name)
    }

    /// The value of a metric that has one sample.
    pub(super) fn value(&self, name: &str) -> Option<f64> {
        self.all(name).next().map(|sample| sample.value)
    }

    /// A label of a metric that has one sample.
    pub(super) fn label(&self, name: &str, label: &str) -> Option<&str> {
        self.samples.iter().find(|sample| sample.name == name)?.label(label)
    }

    /// The samples, to change them.
    #[cfg(test)]
    pub(super) fn samples_mut(&mut self) -> impl Iterator<Item = &mut Sample> {
        self.samples.iter_mut()
    }

    /// The role of the node: the one whose gauge is not 0.
    pub(super) fn role(&self) -> &str {
        let role = self.samples.iter().find(|sample| sample.name == "bbd_role" && sample.value != 0.0);
        role.and_then(|role| role.label("role")).unwrap_or("?")
    }
}

/// `name{label="value",…} 1.5`. Values of labels are never escaped here: ours have no quotes.
fn parse_sample(line: &str) -> Option<Sample> {
    let (head, value) = line.rsplit_once(' ')?;
    let (name, labels) = match head.split_once('{') {
        Some((name, labels)) => (name, labels.strip_suffix('}')?),
        None => (head, ""),
    };
    let mut pairs = Vec::new();
    let mut rest = labels;
    while !rest.is_empty() {
        let (label, behind) = rest.split_once("=\"")?;
        let (value, behind) = behind.split_once('"')?;
        pairs.push((label.to_owned(), value.to_owned()));
        rest = behind.strip_prefix(',').unwrap_or(behind);
    }
    Some(Sample { name: name.to_owned(), labels: pairs, value: value.parse().ok()? })
}

/// A size in three digits or so, in powers of 1024.
pub(super) fn size(bytes: f64) -> String {
    let units = [(30, "G"), (20, "M"), (10, "K")];
    let unit = units.iter().map(|(shift, name)| (f64::from(1 << shift), name)).find(|(unit, _)| bytes >= *unit);
    unit.map_or_else(|| format!("{bytes:.0}"), |(unit, name)| format!("{:.1}{name}", bytes / unit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_read_and_what_is_not_understood_passed_over() {
        let page = MetricsPage::parse(
            "# HELP bbd_role x\n# TYPE bbd_role gauge\nbbd_role{role=\"PRIMARY\"} 0\nbbd_role{role=\"SECONDARY\"} 1\n\
             a_bucket{operation=\"get, {x}\",le=\"+Inf\"} 17\nb 1.5e3\nnonsense\nc{d} 1\ne x\n\nf +Inf\n",
        );
        assert_eq!(page.role(), "SECONDARY");
        assert_eq!((page.value("b"), page.value("c"), page.value("e")), (Some(1500.0), None, None));
        assert_eq!(page.value("f"), Some(f64::INFINITY));
        assert_eq!(page.label("a_bucket", "operation"), Some("get, {x}"));
        assert_eq!(page.all("a_bucket").next().and_then(|sample| sample.label("le")), Some("+Inf"));
        assert_eq!(page.all("bbd_role").count(), 2);
    }
}
