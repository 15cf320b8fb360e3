package configs

import (
	"fmt"
	"math"
	"reflect"
	"strconv"
	"strings"
	"time"
)

// Size is a number of bytes. In the file it carries a binary unit: 64KiB.
type Size int64

// String writes the size with the largest unit that divides it.
func (s Size) String() string {
	for i := len(sizeUnits) - 1; i > 0; i-- {
		if u := sizeUnits[i]; s != 0 && int64(s)%u.bytes == 0 {
			return strconv.FormatInt(int64(s)/u.bytes, 10) + u.name
		}
	}
	return strconv.FormatInt(int64(s), 10) + "B"
}

// Share is a part of a whole, from 0 to 1. In the file it is a percentage: 90%.
type Share float64

// String writes the share as a percentage.
func (s Share) String() string {
	return strconv.FormatFloat(float64(s)*100, 'f', -1, 64) + "%"
}

// Clock is a time of day, local, from midnight. In the file it is hours and
// minutes: 04:00.
type Clock time.Duration

// String writes hours and minutes.
func (c Clock) String() string {
	return fmt.Sprintf("%02d:%02d", int(time.Duration(c).Hours()), int(time.Duration(c).Minutes())%60)
}

var sizeUnits = []struct {
	name  string
	bytes int64
}{{"B", 1}, {"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"TiB", 1 << 40}}

const (
	wantDuration = "a duration with its unit, as in 500ms, 30s, 2m, 1h or 7d"
	wantSize     = "a size with its unit, as in 64KiB, 8MiB or 2GiB"
	wantShare    = "a percentage, as in 90%"
	wantClock    = "a time of day in hours and minutes, as in \"04:00\""
	wantInteger  = "a whole number"
	wantText     = "text; put it in quotes"
	wantBool     = "true or false"
)

// valueError says why a single value cannot be taken.
type valueError struct{ wrong, allowed, suggestion string }

func (e *valueError) Error() string {
	return Problem{Wrong: e.wrong, Allowed: e.allowed, Suggestion: e.suggestion}.Error()
}

// splitUnit separates a number from the letters behind it; ok is false where
// there is no number.
func splitUnit(s string) (number, unit string, ok bool) {
	i := strings.LastIndexAny(s, "0123456789.") + 1
	if _, err := strconv.ParseFloat(s[:i], 64); err != nil {
		return "", "", false
	}
	return s[:i], strings.TrimSpace(s[i:]), true
}

// parseDuration is time.ParseDuration with days (24 hours) in front, and with
// the unit required for zero too.
func parseDuration(s string) (time.Duration, error) {
	if _, unit, ok := splitUnit(s); ok && unit == "" {
		return 0, &valueError{"has no unit", wantDuration, s + "s"}
	}
	rest, days := s, int64(0)
	if before, after, found := strings.Cut(s, "d"); found {
		n, err := strconv.ParseUint(before, 10, 16)
		if err != nil {
			return 0, &valueError{"is not a duration", wantDuration, ""}
		}
		if rest, days = after, int64(n); rest == "" {
			rest = "0s"
		}
	}
	d, err := time.ParseDuration(rest)
	if err != nil || d < 0 || d > math.MaxInt64-time.Duration(math.MaxUint16)*24*time.Hour {
		return 0, &valueError{"is not a duration", wantDuration, ""}
	}
	return time.Duration(days)*24*time.Hour + d, nil
}

func parseSize(s string) (Size, error) {
	number, unit, ok := splitUnit(s)
	if !ok {
		return 0, &valueError{"is not a size", wantSize, ""}
	}
	for _, u := range sizeUnits {
		if unit != u.name {
			continue
		}
		n, err := strconv.ParseInt(number, 10, 64)
		if err != nil || n < 0 || n > math.MaxInt64/u.bytes {
			return 0, &valueError{"is not a size", wantSize, ""}
		}
		return Size(n * u.bytes), nil
	}
	if unit == "" {
		return 0, &valueError{"has no unit", wantSize, ""}
	}
	// KB is a thousand bytes to some and 1024 to others: the file must say.
	for _, u := range sizeUnits {
		if strings.TrimSuffix(strings.ToUpper(unit), "B") == u.name[:1] || strings.EqualFold(unit, u.name) {
			return 0, &valueError{fmt.Sprintf("has the unknown unit %q", unit), wantSize, number + u.name}
		}
	}
	return 0, &valueError{fmt.Sprintf("has the unknown unit %s", quote(unit)), wantSize, ""}
}

func parseShare(s string) (Share, error) {
	number, unit, ok := splitUnit(s)
	if !ok {
		return 0, &valueError{"is not a percentage", wantShare, ""}
	}
	if unit != "%" {
		return 0, &valueError{"has no percent sign", wantShare, ""}
	}
	f, err := strconv.ParseFloat(number, 64)
	if err != nil || f < 0 || f > 100 {
		return 0, &valueError{"is not a percentage", wantShare, ""}
	}
	return Share(f / 100), nil
}

// typedValues is mapstructure's hook for the types that it does not know, and
// closes the one gap that it leaves with weak typing off: it would cut 1.5 to 1.
func typedValues(_, to reflect.Type, value any) (any, error) {
	switch to {
	case reflect.TypeFor[time.Duration]():
		return parseWith(value, parseDuration)
	case reflect.TypeFor[Size]():
		return parseWith(value, parseSize)
	case reflect.TypeFor[Share]():
		return parseWith(value, parseShare)
	case reflect.TypeFor[Clock]():
		return parseWith(value, parseClock)
	case reflect.TypeFor[int]():
		if _, ok := value.(int); !ok {
			return nil, &valueError{"is not a whole number", wantInteger, ""}
		}
	}
	return value, nil
}

func parseClock(s string) (Clock, error) {
	t, err := time.Parse("15:04", s)
	if err != nil || len(s) != len("15:04") {
		return 0, &valueError{"is not a time of day", wantClock, ""}
	}
	return Clock(time.Duration(t.Hour())*time.Hour + time.Duration(t.Minute())*time.Minute), nil
}

// parseWith parses what YAML read as text. A bare number is passed on as text
// too, so that the answer can be that its unit is missing.
func parseWith[T any](value any, parse func(string) (T, error)) (any, error) {
	return parse(fmt.Sprint(value))
}
