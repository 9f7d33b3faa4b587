//! Numbers of the things in a list. Each list has a type of number to itself, so that nobody takes the number of a
//! lane for the number of its credential.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::marker::PhantomData;
use std::ops::{Index, IndexMut};

/// The place of one `T` in its [`Numbered`] list.
pub struct Number<T>(u32, PhantomData<fn() -> T>);

/// A list that only grows, so that a number stays good.
#[derive(Debug)]
pub struct Numbered<T>(Vec<T>);

impl<T> Default for Numbered<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> Numbered<T> {
    pub fn push(&mut self, one: T) -> Number<T> {
        let number = u32::try_from(self.0.len()).expect("destinations and rules are far fewer");
        self.0.push(one);
        Number(number, PhantomData)
    }

    pub fn iter(&self) -> std::slice::Iter<'_, T> {
        self.0.iter()
    }

    pub fn iter_mut(&mut self) -> std::slice::IterMut<'_, T> {
        self.0.iter_mut()
    }

    /// All numbers there are now. They borrow nothing.
    pub fn numbers(&self) -> impl DoubleEndedIterator<Item = Number<T>> + use<T> {
        (0..self.0.len() as u32).map(|number| Number(number, PhantomData))
    }
}

impl<T> Index<Number<T>> for Numbered<T> {
    type Output = T;

    fn index(&self, number: Number<T>) -> &T {
        &self.0[number.0 as usize]
    }
}

impl<T> IndexMut<Number<T>> for Numbered<T> {
    fn index_mut(&mut self, number: Number<T>) -> &mut T {
        &mut self.0[number.0 as usize]
    }
}

#[cfg(test)]
impl<T> Number<T> {
    pub fn nth(number: u32) -> Self {
        Self(number, PhantomData)
    }
}

// Derived, these would ask the same of `T`.

impl<T> Clone for Number<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Number<T> {}

impl<T> PartialEq for Number<T> {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl<T> Eq for Number<T> {}

impl<T> PartialOrd for Number<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Number<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.cmp(&other.0)
    }
}

impl<T> Hash for Number<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

impl<T> fmt::Debug for Number<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
