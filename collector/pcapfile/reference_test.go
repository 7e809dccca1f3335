package pcapfile

import (
	"encoding/binary"
	"math/big"
)

// The reference has the whole file in memory, and shares no code with the reader that it judges.

// entry is a record as the reference has it.
type entry struct {
	at   *big.Int
	data string
	wire int
	link int
}

// reference reads records until the first thing that is wrong. sound says whether that is the end of the file.
func reference(file []byte) (entries []entry, sound bool) {
	if len(file) < 4 {
		return nil, false
	}
	switch string(file[:4]) {
	case "\x0a\x0d\x0d\x0a":
		return referenceNG(file)
	case "\xd4\xc3\xb2\xa1":
		return referencePcap(file, binary.LittleEndian, 1000)
	case "\xa1\xb2\xc3\xd4":
		return referencePcap(file, binary.BigEndian, 1000)
	case "\x4d\x3c\xb2\xa1":
		return referencePcap(file, binary.LittleEndian, 1)
	case "\xa1\xb2\x3c\x4d":
		return referencePcap(file, binary.BigEndian, 1)
	}
	return nil, false
}

func referencePcap(file []byte, order binary.ByteOrder, unit int64) (entries []entry, sound bool) {
	if len(file) < 24 {
		return nil, false
	}
	link := int(order.Uint32(file[20:]) & 0xffff)
	for file = file[24:]; len(file) > 0; {
		if len(file) < 16 {
			return entries, false
		}
		kept, wire := int(order.Uint32(file[8:])), int(order.Uint32(file[12:]))
		if kept > MaxRecord || len(file)-16 < kept {
			return entries, false
		}
		at := new(big.Int).Mul(big.NewInt(int64(order.Uint32(file))), big.NewInt(1e9))
		at.Add(at, big.NewInt(int64(order.Uint32(file[4:]))*unit))
		entries = append(entries, entry{at, string(file[16 : 16+kept]), max(kept, wire), link})
		file = file[16+kept:]
	}
	return entries, true
}

// referenceInterface is what an interface description says.
type referenceInterface struct {
	link, snaplen int
	ticks         *big.Int // in a second
	offset        int64
}

func referenceNG(file []byte) (entries []entry, sound bool) {
	var order binary.ByteOrder
	var on []referenceInterface
	for len(file) > 0 {
		if len(file) < 12 {
			return entries, false
		}
		if string(file[:4]) == "\x0a\x0d\x0d\x0a" {
			switch string(file[8:12]) {
			case "\x4d\x3c\x2b\x1a":
				order = binary.LittleEndian
			case "\x1a\x2b\x3c\x4d":
				order = binary.BigEndian
			default:
				return entries, false
			}
			on = nil
		}
		kind, length := order.Uint32(file), int(order.Uint32(file[4:]))
		if length < 12 || length%4 != 0 || length > len(file) {
			return entries, false
		}
		known := kind == 0x0a0d0d0a || kind == 1 || kind == 2 || kind == 3 || kind == 6
		if length > MaxRecord {
			if known {
				return entries, false
			}
			file = file[length:]
			continue
		}
		if int(order.Uint32(file[length-4:])) != length {
			return entries, false
		}
		body := file[8 : length-4]
		switch {
		case kind == 0x0a0d0d0a:
			if len(body) < 16 || order.Uint16(body[4:]) != 1 {
				return entries, false
			}
		case kind == 1:
			if len(body) < 8 || len(on) == maxInterfaces {
				return entries, false
			}
			on = append(on, referenceOptions(body, order))
		case known:
			e, ok := referencePacket(kind, body, order, on)
			if !ok {
				return entries, false
			}
			entries = append(entries, e)
		}
		file = file[length:]
	}
	return entries, true
}

func referenceOptions(body []byte, order binary.ByteOrder) referenceInterface {
	i := referenceInterface{link: int(order.Uint16(body)), snaplen: int(order.Uint32(body[4:])), ticks: big.NewInt(1e6)}
	for options := body[8:]; len(options) >= 4; {
		code, size := order.Uint16(options), int(order.Uint16(options[2:]))
		if code == 0 || len(options) < 4+size {
			break
		}
		value := options[4 : 4+size]
		if code == 9 && size >= 1 {
			base := int64(10)
			if value[0] >= 128 {
				base = 2
			}
			i.ticks = new(big.Int).Exp(big.NewInt(base), big.NewInt(int64(value[0]%128)), nil)
		}
		if code == 14 && size >= 8 {
			i.offset = int64(order.Uint64(value))
		}
		options = options[min(len(options), 4+(size+3)/4*4):]
	}
	return i
}

func referencePacket(kind uint32, body []byte, order binary.ByteOrder, on []referenceInterface) (entry, bool) {
	if kind == 3 {
		if len(body) < 4 || len(on) == 0 {
			return entry{}, false
		}
		wire := int(order.Uint32(body))
		kept := min(wire, len(body)-4)
		if on[0].snaplen > 0 {
			kept = min(kept, on[0].snaplen)
		}
		return entry{new(big.Int), string(body[4 : 4+kept]), wire, on[0].link}, true
	}
	if len(body) < 20 {
		return entry{}, false
	}
	number := int(order.Uint32(body))
	if kind == 2 {
		number = int(order.Uint16(body))
	}
	kept, wire := int(order.Uint32(body[12:])), int(order.Uint32(body[16:]))
	if number >= len(on) || kept > len(body)-20 {
		return entry{}, false
	}
	at := new(big.Int).SetUint64(uint64(order.Uint32(body[4:]))<<32 | uint64(order.Uint32(body[8:])))
	at.Mul(at, big.NewInt(1e9))
	at.Div(at, on[number].ticks)
	if !at.IsInt64() {
		return entry{}, false
	}
	at.Add(at, new(big.Int).Mul(big.NewInt(on[number].offset), big.NewInt(1e9)))
	if !at.IsInt64() {
		return entry{}, false
	}
	return entry{at, string(body[20 : 20+kept]), max(kept, wire), on[number].link}, true
}
