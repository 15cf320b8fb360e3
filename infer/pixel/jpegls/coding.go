package jpegls

import (
	"fmt"
	mathbits "math/bits"
)

// coding is what the parameters of a scan come to.
type coding struct {
	near       int32
	step       int32 // 2*NEAR+1
	maximum    int32 // MAXVAL
	rng        int32 // RANGE (section A.2.1)
	qbpp       int32 // bits of a mapped error
	limit      int32 // of the length of a code
	reset      int32
	t1, t2, t3 int32 // thresholds of the local gradients
}

// newCoding applies the defaults of section C.2.4.1.1 and the checks of Table C.1.
func newCoding(precision, near int, p preset) (c coding, err error) {
	maximum := p.maximum
	if maximum == 0 {
		maximum = 1<<precision - 1
	}
	if maximum >= 1<<precision || near > min(255, maximum/2) {
		return c, fmt.Errorf("%w: greatest value %d of %d bits, near %d", ErrMalformed, maximum, precision, near)
	}
	t1, t2, t3 := thresholds(maximum, near)
	for _, t := range []struct {
		stated int
		to     *int
	}{{p.t1, &t1}, {p.t2, &t2}, {p.t3, &t3}} {
		if t.stated != 0 {
			*t.to = t.stated
		}
	}
	reset := p.reset
	if reset == 0 {
		reset = 64
	}
	if t1 < near+1 || t2 < t1 || t3 < t2 || t3 > maximum || reset < 3 || reset > max(255, maximum) {
		return c, fmt.Errorf("%w: thresholds %d, %d, %d, reset %d", ErrMalformed, t1, t2, t3, reset)
	}
	rng := (maximum+2*near)/(2*near+1) + 1
	bpp := max(2, mathbits.Len(uint(maximum)))
	return coding{
		near: int32(near), step: int32(2*near + 1), maximum: int32(maximum), rng: int32(rng),
		qbpp:  int32(mathbits.Len(uint(rng - 1))),
		limit: int32(2 * (bpp + max(8, bpp))), reset: int32(reset),
		t1: int32(t1), t2: int32(t2), t3: int32(t3),
	}, nil
}

// thresholds are the default ones.
func thresholds(maximum, near int) (t1, t2, t3 int) {
	clamp := func(t, low int) int {
		if t > maximum || t < low {
			return low
		}
		return t
	}
	if maximum >= 128 {
		factor := (min(maximum, 4095) + 128) / 256
		t1 = clamp(factor*(3-2)+2+3*near, near+1)
		t2 = clamp(factor*(7-3)+3+5*near, t1)
		t3 = clamp(factor*(21-4)+4+7*near, t2)
		return t1, t2, t3
	}
	factor := 256 / (maximum + 1)
	t1 = clamp(max(2, 3/factor+3*near), near+1)
	t2 = clamp(max(3, 7/factor+5*near), t1)
	t3 = clamp(max(4, 21/factor+7*near), t2)
	return t1, t2, t3
}

// region quantizes a local gradient (section A.3.3).
func (c *coding) region(gradient int32) int32 {
	if gradient < 0 {
		return -c.magnitude(-gradient)
	}
	return c.magnitude(gradient)
}

func (c *coding) magnitude(gradient int32) int32 {
	switch {
	case gradient <= c.near:
		return 0
	case gradient < c.t1:
		return 1
	case gradient < c.t2:
		return 2
	case gradient < c.t3:
		return 3
	}
	return 4
}

// reconstruct gives the sample that an error makes of its prediction (section
// A.4.5 and what A.7.2 says alike).
func (c *coding) reconstruct(prediction, err int32) int32 {
	v := prediction + err*c.step
	if v < -c.near {
		v += c.rng * c.step
	} else if v > c.maximum+c.near {
		v -= c.rng * c.step
	}
	return min(max(v, 0), c.maximum)
}
