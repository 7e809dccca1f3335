// Package verifier holds a second verifier of evidence, in Python and from docs/evidence.md alone, and compares it with the one that
// ships: two readings of one page check each other.
package verifier
