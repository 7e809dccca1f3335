// Package events holds the records that cross a process boundary: what a finding says, what a plan decided, what a
// collector reports, what evidence consists of, and the names (object keys, tags, settings) by which all parts find
// each other.
//
// It imports only the standard library, so that every part can import it.
package events
