package app

import (
	"ichwatch/configs"
	"ichwatch/infer/pixel/openjpeg"
)

// CheckDecoders names what this machine lacks for reading compressed slices. With
// it the daemon starts: it reads the others.
func CheckDecoders(cfg *configs.Config) (warnings configs.Problems) {
	if !cfg.Triage.Enabled || len(cfg.Triage.Models) == 0 {
		return nil
	}
	if _, err := openjpeg.Find(); err != nil {
		warnings = append(warnings, configs.Problem{
			Key: "triage", Wrong: "slices in JPEG 2000 end as NOT-ANALYSED: " + err.Error() + "; no restart is needed",
		})
	}
	return warnings
}
