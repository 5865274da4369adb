//! A plain table for a terminal: columns as wide as their widest cell, numbers to the right.

/// Lays out `rows` under `heads`; a column is set to the right when all its cells begin with a digit or are empty.
pub(crate) fn table<const N: usize>(heads: [&str; N], rows: &[[String; N]]) -> String {
    let mut lines = vec![String::new(); rows.len() + 1];
    for column in 0..N {
        let cells = || rows.iter().map(|row| row[column].as_str());
        let width = cells().chain([heads[column]]).map(|cell| cell.chars().count()).max().unwrap_or(0);
        let right = cells().all(|cell| cell.chars().next().is_none_or(|first| first.is_ascii_digit()));
        for (line, cell) in lines.iter_mut().zip([heads[column]].into_iter().chain(cells())) {
            if column > 0 {
                line.push_str("  ");
            }
            *line += &if right { format!("{cell:>width$}") } else { format!("{cell:<width$}") };
        }
    }
    lines.iter().map(|line| format!("{}\n", line.trim_end())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let rows = [["matmul".to_owned(), "12.5".to_owned()], ["a".to_owned(), "3".to_owned()]];
        assert_eq!(table(["name", "ms"], &rows), "name      ms\nmatmul  12.5\na          3\n");
    }
}
