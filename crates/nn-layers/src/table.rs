//! The table of a model: `println!("{model}")`.

use crate::plan::batched;
use crate::{Row, Sequential};
use std::fmt;

/// ```text
///    layer                    output              parameters        FLOPs    activation
/// 0  Conv2d 1 → 32, 3×3       [n, 32, 26, 26]            320      411,008      86,528 B
/// ```
impl fmt::Display for Sequential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let header = ["layer", "output", "parameters", "FLOPs", "activation"].map(String::from);
        let mut lines = vec![Line { number: String::new(), cells: header }];
        lines.extend(self.rows().iter().enumerate().map(|(i, row)| Line { number: i.to_string(), cells: cells(row) }));
        let width = |column: usize| lines.iter().map(|line| line.cells[column].chars().count()).max().unwrap_or(0);
        let widths = [width(0), width(1), width(2), width(3), width(4)];
        let numbers = lines.iter().map(|line| line.number.len()).max().unwrap_or(0);
        for line in &lines {
            let [layer, output, parameters, flops, activation] = &line.cells;
            let [a, b, c, d, e] = widths;
            let number = &line.number;
            writeln!(
                f,
                "{number:>numbers$}  {layer:a$}  {output:b$}  {parameters:>c$}  {flops:>d$}  {activation:>e$}"
            )?;
        }
        let sum = |of: fn(&Row) -> u64| self.rows().iter().map(of).fold(0, u64::saturating_add);
        let known = self.rows().iter().all(|row| row.flops.is_some());
        write!(
            f,
            "input {}, total {} parameters, {}{} FLOPs and {} B of activations per sample",
            batched(&self.input_shape()),
            grouped(sum(|row| row.parameters)),
            if known { "" } else { "at least " },
            grouped(sum(|row| row.flops.unwrap_or(0))),
            grouped(sum(|row| row.activation_bytes)),
        )
    }
}

struct Line {
    number: String,
    cells: [String; 5],
}

fn cells(row: &Row) -> [String; 5] {
    [
        row.label.clone(),
        batched(&row.output),
        grouped(row.parameters),
        row.flops.map_or("?".into(), grouped),
        format!("{} B", grouped(row.activation_bytes)),
    ]
}

/// `1,234,567`
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
