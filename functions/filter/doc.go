// Package filter decides which packets a capture mirrors, and knows as AWS does which packets a filter lets through.
package filter
