// Original file: proto/model_config.proto


export interface ModelEnsembling {
}

export interface ModelEnsembling__Output {
}
