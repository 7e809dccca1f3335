//go:build race

package main

// raceEnabled makes these tests build the collector as they are built themselves.
const raceEnabled = true
