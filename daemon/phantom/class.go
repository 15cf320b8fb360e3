package phantom

import "fmt"

// Class is what a study chiefly shows: nothing, or one of the five subtypes of
// intracranial hemorrhage.
type Class uint8

// The classes, in the order of the model manifests.
const (
	Normal Class = iota
	Epidural
	Subdural
	Intraventricular
	Intraparenchymal
	Subarachnoid

	numClasses = 6
)

var classNames = [numClasses]string{"normal", "epidural", "subdural", "intraventricular", "intraparenchymal", "subarachnoid"}

// Classes lists every class, Normal first.
func Classes() []Class {
	return []Class{Normal, Epidural, Subdural, Intraventricular, Intraparenchymal, Subarachnoid}
}

// String returns the class's name as it stands in labels and manifests.
func (c Class) String() string {
	if int(c) < len(classNames) {
		return classNames[c]
	}
	return fmt.Sprintf("class %d", uint8(c))
}

// ParseClass finds a class by its name.
func ParseClass(name string) (Class, error) {
	for i, n := range classNames {
		if n == name {
			return Class(i), nil
		}
	}
	return Normal, fmt.Errorf("phantom: no class %q; there are %v", name, classNames)
}
