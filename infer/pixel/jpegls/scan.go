package jpegls

import "fmt"

// context is what is known of samples in like surroundings (section A.2.1).
type context struct {
	a int32 // sum of the errors' magnitudes
	b int32 // sum of the errors
	c int32 // correction of the prediction
	n int32 // occurrences
}

// interruption is a context of samples that end a run (section A.7.2).
type interruption struct {
	a, n     int32
	negative int32 // occurrences of an error below zero (Nn)
}

// runOrder has, for each run index, the binary logarithm of the length of a run
// that one bit stands for (section A.2.1, the array J).
var runOrder = [32]int32{0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 9, 10, 11, 12, 13, 14, 15}

// scan decodes one scan.
type scan struct {
	coding
	bits     bits
	contexts [365]context    // by the three regions (section A.3.4)
	ends     [2]interruption // by RItype
	runIndex int
	lines    [2][]int32 // the line above and this one, with a sample more at each end
}

// begin sets the state of section A.2.1.
func (s *scan) begin(c coding, data []byte) {
	s.coding = c
	s.bits = bits{src: data}
	s.runIndex = 0
	a := max(2, (c.rng+32)/64)
	for i := range s.contexts {
		s.contexts[i] = context{a: a, n: 1}
	}
	for i := range s.ends {
		s.ends[i] = interruption{a: a, n: 1}
	}
}

func (s *scan) decode(dst []uint16, width int) error {
	defer func() { s.bits.src = nil }() // nothing of the frame is kept
	for i := range s.lines {
		if cap(s.lines[i]) < width+2 {
			s.lines[i] = make([]int32, width+2)
		}
		s.lines[i] = s.lines[i][:width+2]
		clear(s.lines[i])
	}
	above, line := s.lines[0], s.lines[1]
	for y := range len(dst) / width {
		// Section A.2.1: left of the first sample stands the one above it, and
		// right of the line above its last.
		line[0], above[width+1] = above[1], above[width]
		if err := s.line(above, line); err != nil {
			return fmt.Errorf("%w: in line %d", err, y+1)
		}
		row := dst[y*width : (y+1)*width]
		for x := range row {
			row[x] = uint16(line[x+1])
		}
		above, line = line, above
	}
	return nil
}

// line decodes a line of samples, which are line[1:len-1].
func (s *scan) line(above, line []int32) error {
	end := len(line) - 1
	for x := 1; x < end; {
		left, up, upLeft, upRight := line[x-1], above[x], above[x-1], above[x+1]
		q := (s.region(upRight-up)*9+s.region(up-upLeft))*9 + s.region(upLeft-left)
		if q == 0 {
			n, err := s.run(above[x:end], line[x:end], left)
			if err != nil {
				return err
			}
			x += n
			continue
		}
		line[x] = s.regular(q, left, up, upLeft)
		x++
	}
	if s.bits.exhausted() {
		return fmt.Errorf("%w: it ends among its pixels", ErrMalformed)
	}
	return nil
}

// regular decodes a sample in regular mode (sections A.4 and A.5). q is negative
// where the context's mirror image is kept.
func (s *scan) regular(q, left, up, upLeft int32) int32 {
	sign := int32(1)
	if q < 0 {
		sign, q = -1, -q
	}
	c := &s.contexts[q]

	// Prediction (section A.4.1) and its correction (A.4.2).
	prediction := left + up - upLeft
	if upLeft >= max(left, up) {
		prediction = min(left, up)
	} else if upLeft <= min(left, up) {
		prediction = max(left, up)
	}
	prediction = min(max(prediction+sign*c.c, 0), s.maximum)

	// The error (A.5.1 to A.5.3).
	k := order(c.n, c.a)
	mapped := s.golomb(k, s.limit)
	if s.near == 0 && k == 0 && 2*c.b <= -c.n {
		mapped ^= 1
	}
	err := mapped>>1 ^ -(mapped & 1)

	// The context (A.6).
	c.b += err * s.step
	c.a += max(err, -err)
	if c.n == s.reset {
		c.a >>= 1
		c.b >>= 1
		c.n >>= 1
	}
	c.n++
	if c.b <= -c.n {
		c.b = max(c.b+c.n, 1-c.n)
		c.c = max(c.c-1, -128)
	} else if c.b > 0 {
		c.b = min(c.b-c.n, 0)
		c.c = min(c.c+1, 127)
	}
	return s.reconstruct(prediction, sign*err)
}

// order is the parameter of the Golomb code for a context (section A.5.1).
func order(n, a int32) (k int32) {
	for n<<k < a && k < 24 {
		k++
	}
	return k
}

// golomb decodes a number in a Golomb code of limited length (section A.5.3).
func (s *scan) golomb(k, limit int32) int32 {
	escape := limit - s.qbpp - 1
	high := s.bits.zeros(escape)
	if high < escape {
		return high<<k | s.bits.take(k)
	}
	return s.bits.take(s.qbpp) + 1
}

// run decodes a run of samples like the one to the left (section A.7.1) and, where
// it ends before the line does, the sample that ends it. It returns how many
// samples that are, at least one.
func (s *scan) run(above, line []int32, left int32) (n int, err error) {
	for s.bits.take(1) == 1 {
		full := 1 << runOrder[s.runIndex]
		here := line[n:min(n+full, len(line))]
		for i := range here {
			here[i] = left
		}
		n += len(here)
		if len(here) == full {
			s.runIndex = min(s.runIndex+1, len(runOrder)-1)
		}
		if n == len(line) {
			return n, nil
		}
	}
	rest := int(s.bits.take(runOrder[s.runIndex]))
	if rest >= len(line)-n {
		return 0, fmt.Errorf("%w: a run past the line", ErrMalformed)
	}
	for range rest {
		line[n] = left
		n++
	}
	line[n] = s.interrupt(left, above[n])
	s.runIndex = max(s.runIndex-1, 0)
	return n + 1, nil
}

// interrupt decodes the sample that ends a run (section A.7.2).
func (s *scan) interrupt(left, up int32) int32 {
	kind, prediction, sign := int32(0), up, int32(1)
	if d := left - up; max(d, -d) <= s.near {
		kind, prediction = 1, left
	} else if left > up {
		sign = -1
	}
	c := &s.ends[kind]
	k := order(c.n, c.a+kind*(c.n>>1))
	mapped := s.golomb(k, s.limit-runOrder[s.runIndex]-1)

	// The error is the mapped one without its lowest bit, which tells whether it
	// has the sign that is less to be expected.
	v := mapped + kind
	err := (v + 1) >> 1
	if (k != 0 || 2*c.negative >= c.n) == (v&1 == 1) {
		err = -err
	}

	if err < 0 {
		c.negative++
	}
	c.a += (mapped + 1 - kind) >> 1
	if c.n == s.reset {
		c.a >>= 1
		c.n >>= 1
		c.negative >>= 1
	}
	c.n++
	return s.reconstruct(prediction, sign*err)
}
