package mqtt

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestReturns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newReturns()
		came := func(ch <-chan struct{}) bool {
			select {
			case <-ch:
				return true
			default:
				return false
			}
		}
		if back, forget := r.await("a", []byte("1")); back != nil {
			t.Error("awaits what is not read back")
			forget()
		}
		r.read("a")
		if back, _ := r.await("a", []byte(strings.Repeat("x", maxReturned))); back != nil {
			t.Error("awaits what is cut off on its way back")
		}
		first, forgetFirst := r.await("a", []byte("1"))
		second, forgetSecond := r.await("a", []byte("1"))
		other, forgetOther := r.await("a", []byte("2"))
		time.Sleep(time.Minute)
		r.arrived("a", []byte("3")) // somebody else's
		r.arrived("b", []byte("1"))
		if came(first) || came(second) || came(other) || r.quiet() != time.Minute {
			t.Errorf("a stranger's message counts; quiet for %v", r.quiet())
		}
		r.arrived("a", []byte("1")) // for whoever sent it
		if !came(first) || !came(second) || came(other) || r.quiet() != 0 {
			t.Errorf("%v, %v, %v, quiet for %v", came(first), came(second), came(other), r.quiet())
		}
		forgetFirst()
		forgetSecond()
		time.Sleep(time.Second)
		forgetOther()
		if r.quiet() != time.Second {
			t.Errorf("quiet for %v: what did not come back in time is still silence", r.quiet())
		}
		r.arrived("a", []byte("2")) // too late
		again, forget := r.await("a", []byte("2"))
		r.arrived("a", []byte("2"))
		if !came(again) || r.quiet() != 0 || len(r.waiting) != 0 {
			t.Errorf("%v, quiet for %v, %d waiting", came(again), r.quiet(), len(r.waiting))
		}
		forget()
	})
}
