package pcapfile

import "fmt"

// LinkType says what the data of a record begins with (IANA, "PCAP LINKTYPE").
type LinkType uint32

// Ethernet is the link type of what Traffic Mirroring carries, and of what it is carried in.
const Ethernet LinkType = 1

// linkNames are those that captures of ordinary machines have.
var linkNames = map[LinkType]string{
	0: "NULL", Ethernet: "ETHERNET", 8: "SLIP", 9: "PPP", 12: "RAW", 14: "RAW", 50: "PPP_HDLC", 51: "PPP_ETHER", 101: "RAW",
	104: "C_HDLC", 105: "IEEE802_11", 108: "LOOP", 113: "LINUX_SLL", 117: "PFLOG", 119: "IEEE802_11_PRISM",
	127: "IEEE802_11_RADIOTAP", 141: "LINUX_IRDA", 147: "USER0", 189: "USB_LINUX", 192: "PPI", 201: "BLUETOOTH_HCI_H4_WITH_PHDR",
	220: "USB_LINUX_MMAPPED", 227: "CAN_SOCKETCAN", 228: "IPV4", 229: "IPV6", 239: "NFLOG", 240: "NETANALYZER", 249: "USBPCAP",
	252: "WIRESHARK_UPPER_PDU", 253: "NETLINK", 271: "VSOCK", 276: "LINUX_SLL2",
}

func (l LinkType) String() string {
	if name := linkNames[l]; name != "" {
		return name
	}
	return fmt.Sprintf("LINKTYPE %d", uint32(l))
}
