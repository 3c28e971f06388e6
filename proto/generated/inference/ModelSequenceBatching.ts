// Original file: proto/model_config.proto


export interface ModelSequenceBatching {
}

export interface ModelSequenceBatching__Output {
}
