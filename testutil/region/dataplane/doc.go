// Package dataplane is what a VPC does with the packets of a mirrored interface: it chooses them by filter, cuts them,
// and sends them to the target as VXLAN datagrams.
//
// The facts are those of the AWS guide "VPC Traffic Mirroring" (quoted as TM and the page's name). Where the guide is
// silent, the choice made here stands at the code that makes it, and begins with "Unstated".
package dataplane
