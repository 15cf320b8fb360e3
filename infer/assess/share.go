package assess

// answers are right or wrong ones about items of patients.
type answers struct {
	item, unit string // for words
	patients   map[int]int
	patient    []int // by the order in which they came: as elsewhere
	right, all []float64
	items      int
}

func newAnswers(item, unit string) *answers {
	return &answers{item: item, unit: unit, patients: map[int]int{}}
}

// add takes an answer about an item of a patient.
func (a *answers) add(patient int, right bool) {
	i, known := a.patients[patient]
	if !known {
		i = len(a.patient)
		a.patients[patient] = i
		a.patient = append(a.patient, patient)
		a.right, a.all = append(a.right, 0), append(a.all, 0)
	}
	a.items++
	a.all[i]++
	if right {
		a.right[i]++
	}
}

// figures is the share of right answers alone.
func (a *answers) figures() []figure {
	f := figure{who: a.unit, ratio: true, patients: len(a.patient)}
	if a.items == 0 {
		f.undefined = "there is no " + a.item
	}
	if f.patients == a.items {
		f.trials = a.items
	}
	return []figure{f}
}

func (a *answers) measure(weight, dst []float64) {
	right, all := 0.0, 0.0
	for i, p := range a.patient {
		right += weight[p] * a.right[i]
		all += weight[p] * a.all[i]
	}
	dst[0] = right / all
}

// Share gives the share of answers that are right, with its interval over patients:
// slices of one head are no independent trials. patient has any number that tells
// patients apart, for each answer.
func Share(patient []int, right []bool, o Options) Estimate {
	o = o.orDefault()
	a := newAnswers("answer", o.Unit)
	for i, p := range patient {
		a.add(p, right[i])
	}
	for i := range a.patient { // they alone are drawn
		a.patient[i] = i
	}
	return estimate(len(a.patient), o, []measurer{a})[0][0]
}
