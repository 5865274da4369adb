//! [`Few`]: a list that is nearly always one long, and then takes no memory of its own.

/// The first element in place, the others on the heap.
#[derive(Clone)]
pub(crate) struct Few<T> {
    first: Option<T>,
    rest: Vec<T>,
}

impl<T> Few<T> {
    pub(crate) const fn new() -> Self {
        Self { first: None, rest: Vec::new() }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.first.is_none() && self.rest.is_empty()
    }

    pub(crate) fn push(&mut self, item: T) {
        match self.is_empty() {
            true => self.first = Some(item),
            false => self.rest.push(item),
        }
    }

    pub(crate) fn get(&self, i: usize) -> Option<&T> {
        if i == 0 { self.first.as_ref() } else { self.rest.get(i - 1) }
    }

    /// Takes the last element.
    pub(crate) fn pop(&mut self) -> Option<T> {
        self.rest.pop().or_else(|| self.first.take())
    }

    /// Element `i`; the list grows to hold it.
    pub(crate) fn slot(&mut self, i: usize) -> &mut T
    where
        T: Default,
    {
        let first = self.first.get_or_insert_default();
        if i == 0 {
            return first;
        }
        if self.rest.len() < i {
            self.rest.resize_with(i, T::default);
        }
        &mut self.rest[i - 1]
    }

    /// Drops what `keep` refuses.
    pub(crate) fn retain(&mut self, keep: impl Fn(&T) -> bool) {
        self.first = self.first.take().filter(&keep);
        self.rest.retain(keep);
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.first.iter().chain(&self.rest)
    }
}

impl<T> FromIterator<T> for Few<T> {
    fn from_iter<I: IntoIterator<Item = T>>(items: I) -> Self {
        let mut items = items.into_iter();
        Self { first: items.next(), rest: items.collect() }
    }
}

impl<T> IntoIterator for Few<T> {
    type Item = T;
    type IntoIter = std::iter::Chain<std::option::IntoIter<T>, std::vec::IntoIter<T>>;

    fn into_iter(self) -> Self::IntoIter {
        self.first.into_iter().chain(self.rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn behaves_as_a_vector() {
        let mut few = Few::new();
        assert!(few.is_empty() && few.pop().is_none());
        (0..5).for_each(|i| few.push(i));
        assert_eq!((few.get(0), few.get(4), few.get(5)), (Some(&0), Some(&4), None));
        assert_eq!(few.iter().copied().collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
        few.retain(|i| i % 2 == 1);
        assert_eq!(few.clone().into_iter().collect::<Vec<_>>(), [1, 3]);
        assert_eq!((few.pop(), few.pop(), few.pop()), (Some(3), Some(1), None));
        *few.slot(2) = 7;
        *few.slot(0) = 5;
        assert_eq!(few.into_iter().collect::<Vec<_>>(), [5, 0, 7]);
        assert_eq!((0..3).collect::<Few<_>>().into_iter().collect::<Vec<_>>(), [0, 1, 2]);
    }
}
