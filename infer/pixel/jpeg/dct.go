package jpeg

// The inverse DCT (section A.3.3) after Loeffler, Ligtenberg and Moschytz,
// "Practical fast 1-D DCT algorithms with 11 multiplications", ICASSP 1989, in
// the fixed-point form that libjpeg and what descends from it call "slow
// integer": with the same roundings, so that a slice has the same Hounsfield
// units here and in a viewer.

const constantBits = 13

// Square roots and cosines of the paper, times 2 to the constantBits.
const (
	c0298631336 = 2446
	c0390180644 = 3196
	c0541196100 = 4433
	c0765366865 = 6270
	c0899976223 = 7373
	c1175875602 = 9633
	c1501321110 = 12299
	c1847759065 = 15137
	c1961570560 = 16069
	c2053119869 = 16819
	c2562915447 = 20995
	c3072711026 = 25172
)

// inverseDCT turns the coefficients of a block into samples of that precision.
func inverseDCT(c *[64]int32, samples *[64]uint16, precision uint) {
	// Bits of fraction between the passes: as many as 32 bits leave room for.
	fraction := uint(2)
	if precision > 8 {
		fraction = 1
	}
	for x := range 8 {
		if c[x+8]|c[x+16]|c[x+24]|c[x+32]|c[x+40]|c[x+48]|c[x+56] == 0 {
			v := c[x] << fraction
			for y := range 8 {
				c[x+8*y] = v
			}
			continue
		}
		pass(c, x, 8, constantBits-fraction)
	}
	shift, top := int32(1)<<(precision-1), int32(1)<<precision-1
	for y := range 8 {
		pass(c, 8*y, 1, constantBits+fraction+3)
		for x := 8 * y; x < 8*y+8; x++ {
			samples[x] = uint16(min(max(c[x]+shift, 0), top))
		}
	}
}

// pass transforms the eight values from first on, step apart, and takes the
// lowest bits off, rounding.
func pass(c *[64]int32, first, step int, bits uint) {
	at := func(i int) int { return (first + i*step) & 63 }

	// Even part.
	z2, z3 := c[at(2)], c[at(6)]
	z1 := (z2 + z3) * c0541196100
	t2, t3 := z1-z3*c1847759065, z1+z2*c0765366865
	t0, t1 := (c[at(0)]+c[at(4)])<<constantBits, (c[at(0)]-c[at(4)])<<constantBits
	e0, e3, e1, e2 := t0+t3, t0-t3, t1+t2, t1-t2

	// Odd part.
	t0, t1, t2, t3 = c[at(7)], c[at(5)], c[at(3)], c[at(1)]
	z1, z2, z3 = t0+t3, t1+t2, t0+t2
	z4 := t1 + t3
	z5 := (z3 + z4) * c1175875602
	z1, z2, z3, z4 = -z1*c0899976223, -z2*c2562915447, z5-z3*c1961570560, z5-z4*c0390180644
	t0 = t0*c0298631336 + z1 + z3
	t1 = t1*c2053119869 + z2 + z4
	t2 = t2*c3072711026 + z2 + z3
	t3 = t3*c1501321110 + z1 + z4

	half := int32(1) << (bits - 1)
	c[at(0)], c[at(7)] = (e0+t3+half)>>bits, (e0-t3+half)>>bits
	c[at(1)], c[at(6)] = (e1+t2+half)>>bits, (e1-t2+half)>>bits
	c[at(2)], c[at(5)] = (e2+t1+half)>>bits, (e2-t1+half)>>bits
	c[at(3)], c[at(4)] = (e3+t0+half)>>bits, (e3-t0+half)>>bits
}
