package main

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// sheet is a page for a person: a label, and beside it text that is wrapped and stays in its column.
type sheet struct{ b strings.Builder }

const (
	labelWidth = 11
	sheetWidth = 120
)

// say writes one labelled text; an empty label continues the one before.
func (s *sheet) say(label, format string, args ...any) {
	s.put(label, "", fmt.Sprintf(format, args...))
}

// item writes one text of a list, whose further lines stand a little further in.
func (s *sheet) item(label, format string, args ...any) {
	s.put(label, "  ", fmt.Sprintf(format, args...))
}

func (s *sheet) put(label, hang, text string) {
	room := sheetWidth - labelWidth
	for i, line := range wrap(text, room, room-len(hang)) {
		if i == 1 {
			label = ""
		}
		if i > 0 {
			line = hang + line
		}
		s.b.WriteString(strings.TrimRight(fmt.Sprintf("%-*s%s", labelWidth, label, line), " ") + "\n")
	}
}

// gap sets what follows apart.
func (s *sheet) gap() { s.b.WriteByte('\n') }

// table writes rows in columns as wide as they need to be.
func (s *sheet) table(label string, rows [][]string) {
	var widths []int
	for _, row := range rows {
		for i, cell := range row {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	for _, row := range rows {
		var line strings.Builder
		for i, cell := range row {
			fmt.Fprintf(&line, "%-*s", widths[i]+2, cell)
		}
		s.b.WriteString(strings.TrimRight(fmt.Sprintf("%-*s%s", labelWidth, label, line.String()), " ") + "\n")
		label = ""
	}
}

// wrap breaks text at spaces into a first line of at most first characters and others of at most rest. A word that is
// longer than a line, such as a command to be copied, stays whole.
func wrap(text string, first, rest int) []string {
	var lines []string
	line, room := "", first
	for _, word := range strings.Fields(text) {
		switch {
		case line == "":
			line = word
		case utf8.RuneCountInString(line)+1+utf8.RuneCountInString(word) > room:
			lines = append(lines, line)
			line, room = word, rest
		default:
			line += " " + word
		}
	}
	return append(lines, line)
}
