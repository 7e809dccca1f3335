package iam

import "testing"

// Row is a row of the table, for the tests outside the package.
type Row struct {
	Name               string
	Request            Request
	Identity           []string // documents
	Boundary, Resource string
	Want               Decision
	Oracle             string
}

// Rows is the table.
func Rows(t *testing.T) []Row {
	var list []Row
	for _, r := range rows {
		request, _ := r.question(t)
		out := Row{Name: r.name, Request: request, Want: r.want, Oracle: r.oracle}
		for _, text := range r.identity {
			out.Identity = append(out.Identity, document(text))
		}
		if r.boundary != "" {
			out.Boundary = document(r.boundary)
		}
		if r.resource != "" {
			out.Resource = document(r.resource)
		}
		list = append(list, out)
	}
	return list
}
