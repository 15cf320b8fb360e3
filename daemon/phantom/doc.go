// Package phantom makes synthetic non-contrast head CT studies with known truth.
//
// A study is drawn from a seed: the anatomy (size, shape, age, asymmetry,
// calcifications), the bleeds of its class, and the acquisition (pose, gantry
// tilt, field of view, thickness, reconstruction kernel, dose, artefacts).
// Nothing is stored between the draw and the picture: every structure is an
// implicit function of the position in the head, evaluated for each voxel, so
// that a slice of any plane and thickness is rendered by itself.
//
// The same seed and options give the same bytes on every run of one build.
// Go may fuse multiply and add where the target allows it (GOAMD64=v3, arm64),
// so that another target may differ in the last HU; the golden hash of the
// tests is therefore stated for amd64 at its default level only.
//
// The pictures serve as demonstration, commissioning phantom, load source and
// pretraining set. They resemble CT; they are no substitute for patients'
// images in an assessment.
//
// # Coordinates
//
// Head coordinates are millimetres with x to the patient's left, y to the
// back and z to the vertex (LPS, PS3.3 C.7.6.2.1.1); the origin lies between
// the anterior and the posterior commissure.
package phantom
