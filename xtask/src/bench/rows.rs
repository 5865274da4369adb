//! The figures of one run: read, set beside the machine's peaks, and compared with those of an earlier run.

use std::fs;
use std::path::Path;
use std::time::SystemTime;

use serde_json::{Value, json};

use super::machine::Peaks;
use crate::Result;
use crate::project::list;
use crate::table::table;

/// One figure of the report.
pub(crate) struct Row {
    pub(crate) name: String,
    /// `ms` or `s`
    unit: String,
    median: f64,
    p10: f64,
    samples: usize,
    work: Option<Work>,
    /// What the median should be at most.
    goal: Option<f64>,
}

/// What must be done in the time of a row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Work {
    /// Floating-point operations.
    Flops(f64),
    /// Bytes that are read and written.
    Bytes(f64),
}

impl Row {
    /// Of a line that the program `workloads` prints.
    pub(crate) fn read(line: &Value) -> Option<Self> {
        Some(Self {
            name: line["name"].as_str()?.into(),
            unit: line["unit"].as_str()?.into(),
            median: line["median"].as_f64()?,
            p10: line["p10"].as_f64()?,
            samples: line["samples"].as_u64()? as usize,
            work: line["flops"].as_f64().map(Work::Flops),
            goal: line["goal"].as_f64(),
        })
    }

    /// Billions of operations or of bytes a second, at the median.
    fn rate(&self) -> Option<f64> {
        let (Work::Flops(count) | Work::Bytes(count)) = self.work?;
        Some(count / 1e9 / (self.median * if self.unit == "ms" { 1e-3 } else { 1.0 }))
    }

    /// The rate as a share of the machine's own.
    fn share(&self, peaks: &Peaks) -> Option<f64> {
        Some(self.rate()? / peaks.bound(self.work?)?)
    }

    fn json(&self, peaks: &Peaks) -> Value {
        let (flops, bytes) = match self.work {
            Some(Work::Flops(flops)) => (Some(flops), None),
            Some(Work::Bytes(bytes)) => (None, Some(bytes)),
            None => (None, None),
        };
        json!({
            "name": self.name, "unit": self.unit, "median": self.median, "p10": self.p10, "samples": self.samples,
            "flops": flops, "gflops": flops.and(self.rate()), "bytes": bytes, "gbs": bytes.and(self.rate()),
            "share": self.share(peaks), "goal": self.goal,
        })
    }
}

/// Prints the table, and returns the rows of the report.
pub(crate) fn report(rows: &[Row], peaks: &Peaks) -> Vec<Value> {
    let cells = |row: &Row| {
        let unit = if matches!(row.work, Some(Work::Bytes(_))) { "GB/s" } else { "GFLOP/s" };
        [
            row.name.clone(),
            format!("{:.4}", row.median),
            format!("{:.4}", row.p10),
            row.unit.clone(),
            row.samples.to_string(),
            row.rate().map_or(String::new(), |rate| format!("{rate:.1}")),
            row.rate().map_or(String::new(), |_| unit.into()),
            row.share(peaks).map_or(String::new(), |share| format!("{:.0} %", 100.0 * share)),
        ]
    };
    let heads = ["benchmark", "median", "p10", "unit", "samples", "rate", "", "of peak"];
    println!("\n{}", table(heads, &rows.iter().map(cells).collect::<Vec<_>>()));
    for row in rows {
        let Some(goal) = row.goal else { continue };
        let result = if row.median <= goal { "held" } else { "short" };
        println!("{}: {:.2} {}, goal on two cores {goal} {}: {result}", row.name, row.median, row.unit, row.unit);
    }
    rows.iter().map(|row| row.json(peaks)).collect()
}

/// Prints how each row compares with the row of the same name in an earlier report.
pub(crate) fn against(earlier: &Path, rows: &[Row]) -> Result<()> {
    let text = fs::read_to_string(earlier).map_err(|error| format!("{}: {error}", earlier.display()))?;
    let report: Value = serde_json::from_str(&text)?;
    let before = |name: &str| list(&report["rows"]).find(|row| row["name"] == name)?["median"].as_f64();
    let cells = rows.iter().filter_map(|row| {
        let (before, now) = (before(&row.name)?, row.median);
        Some([row.name.clone(), format!("{before:.4}"), format!("{now:.4}"), format!("{:.3}", before / now)])
    });
    println!("\n{}", table(["benchmark", "before", "now", "times faster"], &cells.collect::<Vec<_>>()));
    Ok(())
}

/// The rows of all samples that criterion wrote below `folder` after `start`.
pub(crate) fn of_criterion(folder: &Path, start: SystemTime) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    if folder.is_dir() {
        collect(folder, start, &mut rows)?;
    }
    rows.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(rows)
}

/// Looks for `…/new/sample.json`.
fn collect(folder: &Path, start: SystemTime, rows: &mut Vec<Row>) -> Result<()> {
    let sample = folder.join("sample.json");
    if folder.ends_with("new") && sample.is_file() && fs::metadata(&sample)?.modified()? >= start {
        let read = |name: &str| -> Result<Value> { Ok(serde_json::from_slice(&fs::read(folder.join(name))?)?) };
        rows.push(criterion_row(&read("benchmark.json")?, &read("sample.json")?));
        return Ok(());
    }
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, start, rows)?;
        }
    }
    Ok(())
}

fn criterion_row(benchmark: &Value, sample: &Value) -> Row {
    let nanoseconds: Vec<f64> = list(&sample["times"])
        .zip(list(&sample["iters"]))
        .filter_map(|(time, count)| Some(time.as_f64()? / count.as_f64()?))
        .collect();
    let at = |fraction| percentile(nanoseconds.clone(), fraction) / 1e6;
    let work = &benchmark["throughput"];
    Row {
        name: benchmark["full_id"].as_str().unwrap_or_default().to_owned(),
        unit: "ms".into(),
        median: at(0.5),
        p10: at(0.1),
        samples: nanoseconds.len(),
        work: work["Elements"].as_f64().map(Work::Flops).or(work["BytesDecimal"].as_f64().map(Work::Bytes)),
        goal: None,
    }
}

/// The value below which `fraction` of the values lie, by the nearest rank; NaN of none.
pub(crate) fn percentile(mut values: Vec<f64>, fraction: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let rank = (fraction * values.len() as f64).ceil() as usize;
    values.get(rank.saturating_sub(1)).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_the_nearest_rank() {
        let values: Vec<f64> = (1..=10).rev().map(f64::from).collect();
        assert_eq!((percentile(values.clone(), 0.5), percentile(values, 0.1)), (5.0, 1.0));
        assert_eq!(percentile(vec![3.0], 0.1), 3.0);
        assert!(percentile(Vec::new(), 0.5).is_nan());
    }

    #[test]
    fn a_row_has_all_its_fields() {
        let whole = json!({"name": "a", "unit": "ms", "median": 1.5, "p10": 1.0, "samples": 7});
        assert!(Row::read(&whole).is_some_and(|row| row.median == 1.5 && row.samples == 7));
        assert!(Row::read(&json!({"name": "a", "unit": "ms", "median": 1.5})).is_none());
    }

    #[test]
    fn rates_are_a_second() {
        let line = |unit: &str| json!({"name": "a", "unit": unit, "median": 2.0, "p10": 1, "samples": 7, "flops": 3e9});
        let rate = |unit: &str| Row::read(&line(unit)).and_then(|row| row.rate());
        assert_eq!((rate("ms"), rate("s")), (Some(1500.0), Some(1.5)));
    }

    #[test]
    fn criterion_says_what_a_kernel_does() {
        let benchmark = json!({"full_id": "add/1m", "throughput": {"BytesDecimal": 4000}});
        let row = criterion_row(&benchmark, &json!({"times": [4e6, 9e6], "iters": [2.0, 3.0]}));
        assert_eq!((row.name.as_str(), row.median, row.samples), ("add/1m", 2.0, 2));
        assert_eq!((row.work, row.rate()), (Some(Work::Bytes(4000.0)), Some(0.002)));
    }
}
