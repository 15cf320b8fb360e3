package pixel

// Description is what a data set's header says of its pixels. The caller takes
// it from there; nothing in it is trusted. Of an object of several frames each
// has a description of its own: they differ in Rescaled, Slope, Intercept,
// Padding and PixelSpacing alone (PS3.3 section C.7.6.16).
type Description struct {
	Rows, Columns   int // (0028,0010), (0028,0011)
	SamplesPerPixel int // (0028,0002); 0: absent, taken as 1
	Frames          int // (0028,0008); 0: absent, taken as 1

	BitsAllocated int  // (0028,0100): 8 or 16
	BitsStored    int  // (0028,0101)
	HighBit       int  // (0028,0102)
	Signed        bool // (0028,0103) is 1

	// Photometric is (0028,0004): MONOCHROME1 or MONOCHROME2. It tells how to
	// show a slice and has no part in its HU (PS3.3 C.7.6.3.1.2).
	Photometric string

	Rescaled  bool    // (0028,1052) and (0028,1053) are both there
	Slope     float64 // (0028,1053)
	Intercept float64 // (0028,1052)

	Padding Padding

	PixelSpacing [2]float64 // (0028,0030), mm between rows, between columns; 0 where unknown

	// The transfer syntax: its UID, a name for messages, and what follows from it.
	SyntaxUID    string
	Syntax       string
	BigEndian    bool
	Deflated     bool
	Encapsulated bool

	// Where the pixels lie: bytes from the start of the data set (of the inflated
	// one, where deflated) to the first byte of the value, or where encapsulated
	// to the item of the basic offset table, and the value's length as its element
	// claims it (FFFFFFFFH: undefined, as it is where encapsulated).
	Offset int64
	Length uint32
}

// Padding is the stored value, or range of values, that stands for no
// measurement: outside the scanner's circle. It becomes air.
type Padding struct {
	Set   bool
	Value uint16 // (0028,0120), the 16 bits as sent
	// Limit is (0028,0121), the range's other end; Ranged tells that it is there.
	Limit  uint16
	Ranged bool
}
